"""Pages of the site that are code."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.filterwarnings("ignore:The model has one output column")
@pytest.mark.parametrize("page", ["densities.rst"])
def test_every_snippet_of_a_page_runs_as_it_stands(page):
    failed, tried = doctest.testfile(str(DOCS / page), module_relative=False)
    assert tried > 10 and failed == 0
