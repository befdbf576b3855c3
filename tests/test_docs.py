"""Pages of the site that are code."""

import doctest
import sys
import types
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.filterwarnings("ignore:The model has one output column")
@pytest.mark.parametrize(
    "page", ["densities.rst", "extending.rst", "inputs.rst", "low_rank.rst", "retrieval.rst", "saving.rst"]
)
def test_every_snippet_of_a_page_runs_as_it_stands(page, monkeypatch):
    module = types.ModuleType("a_page")  # classes of a page can then be pickled
    monkeypatch.setitem(sys.modules, "a_page", module)
    snippets = doctest.DocTestParser().get_doctest((DOCS / page).read_text(), {}, page, page, 0)
    snippets.globs = vars(module)
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(snippets, clear_globs=False)
    assert found.attempted > 10 and found.failed == 0
