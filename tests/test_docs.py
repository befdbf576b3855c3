"""Pages of the site that are code."""

import doctest
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
ACCURACY_ATOL = 0.03  # another processor rounds otherwise, and training carries that on
DECIMAL = re.compile(r"\d+\.\d+")


class NearlyEqual(doctest.OutputChecker):
    """Words must match; numbers with a decimal point may differ by what another machine makes of them."""

    def check_output(self, want, got, optionflags):
        if super().check_output(want, got, optionflags):
            return True
        numbers = [[float(number) for number in DECIMAL.findall(text)] for text in (want, got)]
        same_words = super().check_output(DECIMAL.sub("#", want), DECIMAL.sub("#", got), optionflags)
        return same_words and numbers[0] == pytest.approx(numbers[1], abs=ACCURACY_ATOL)


@pytest.mark.filterwarnings("ignore:The model has one output column")
@pytest.mark.parametrize(
    "page",
    [
        "densities.rst",
        "extending.rst",
        "inputs.rst",
        "low_rank.rst",
        "recipes.rst",
        "retrieval.rst",
        "saving.rst",
        "tutorial.rst",
    ],
)
def test_every_snippet_of_a_page_runs_as_it_stands(page, monkeypatch):
    module = types.ModuleType("a_page")  # classes of a page can then be pickled
    monkeypatch.setitem(sys.modules, "a_page", module)
    snippets = doctest.DocTestParser().get_doctest((DOCS / page).read_text(), {}, page, page, 0)
    snippets.globs = vars(module)
    runner = doctest.DocTestRunner(NearlyEqual(), optionflags=doctest.ELLIPSIS)
    with torch.random.fork_rng():
        found = runner.run(snippets, clear_globs=False)
    assert found.attempted > 10 and found.failed == 0


def test_the_snippet_of_the_readme_runs():
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    X = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
    y = (X[:, 0] > 0).astype(int)
    names = {"model": nn.Linear(5, 3), "X": X[:40], "y": y[:40], "X_test": X[40:], "y_test": y[40:]}
    snippet = snippet.replace("n_components=128", "n_components=8")
    exec(snippet, names)
    assert names["probe"].score(X[40:], y[40:]) > 0.7
