"""Pages of the site that are code."""

import doctest
import os
import re
import sys
import textwrap
import tomllib
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sknfk import NFKTransformer

from . import pages

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SITE = Path(os.environ.get("SKNFK_SITE", DOCS / "_build" / "html"))
OF_CODE = (
    *("companions.rst", "densities.rst", "extending.rst", "inputs.rst", "low_rank.rst"),
    *("recipes.rst", "retrieval.rst", "saving.rst", "tutorial.rst"),
)
EXTRAS = {"io": r"\.save\(|checkpoint=", "plot": r"Display|pyplot", "text": "transformers"}  # what in code needs them
TRAINED = {"tutorial.rst"}  # another processor rounds otherwise, and training carries that on
ACCURACY_ATOL = 0.03
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
@pytest.mark.parametrize("page", OF_CODE)
def test_every_snippet_of_a_page_runs_as_it_stands(page, monkeypatch):
    module = types.ModuleType("a_page")  # classes of a page can then be pickled
    monkeypatch.setitem(sys.modules, "a_page", module)
    snippets = doctest.DocTestParser().get_doctest((DOCS / page).read_text(), {}, page, page, 0)
    snippets.globs = vars(module)
    checker = NearlyEqual() if page in TRAINED else None
    runner = doctest.DocTestRunner(checker, optionflags=doctest.ELLIPSIS)
    with torch.random.fork_rng():
        found = runner.run(snippets, clear_globs=False)
    assert found.attempted > 10 and found.failed == 0


@pytest.mark.parametrize("page", OF_CODE)
def test_a_page_names_the_extras_that_its_snippets_need(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    code = "\n".join(example.source for example in doctest.DocTestParser().get_examples(text))
    needed = {extra for extra, use in EXTRAS.items() if re.search(use, code)}
    assert set(re.findall(r"extra\s+``(\w+)``", text)) == needed


def test_the_recipe_for_a_pretrained_language_model_runs_and_pads_on_the_right(tmp_path):
    transformers = pytest.importorskip("transformers")
    letters = {token: index for index, token in enumerate(["a", "b", "c", "<|endoftext|>"])}
    transformers.GPT2Tokenizer(vocab=letters, merges=[], padding_side="left").save_pretrained(tmp_path)
    sizes = {"vocab_size": 4, "n_embd": 8, "n_layer": 1, "n_head": 2, "bos_token_id": 3, "eos_token_id": 3}
    with torch.random.fork_rng():
        transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).save_pretrained(tmp_path)
    recipes = re.findall(r"code-block:: python\n((?:    .*\n|\n)+)", (DOCS / "recipes.rst").read_text(encoding="utf-8"))
    names = {"name": str(tmp_path), "texts": ["abc", "a", "ca", "bb"]}
    exec(textwrap.dedent(next(recipe for recipe in recipes if "tokenizer" in recipe)), names)
    assert names["batch"]["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 0]]
    nfk = NFKTransformer(names["language_model"], 2, density="language_model", random_state=0)
    assert nfk.fit_transform(names["batch"]).shape == (4, 2)


def test_the_snippet_of_the_readme_runs():
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    X = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
    y = (X[:, 0] > 0).astype(int)
    names = {"model": nn.Linear(5, 3), "X": X[:40], "y": y[:40], "X_test": X[40:], "y_test": y[40:]}
    snippet = snippet.replace("n_components=128", "n_components=8")
    exec(snippet, names)
    assert names["probe"].score(X[40:], y[40:]) > 0.7


SOURCES = sorted(DOCS.glob("*.rst"))


@pytest.mark.parametrize("source", [*SOURCES, *sorted(ROOT.glob("examples/plot_*.py"))], ids=lambda path: path.stem)
def test_every_page_figure_and_file_that_a_source_refers_to_is_there(source):
    assert not pages.missing_targets(source, ROOT)


def test_every_page_is_reached_from_the_first():
    index = (DOCS / "index.rst").read_text(encoding="utf-8")
    listed = set(re.findall(r"^    (?:.* <)?([\w/]+)>?$", index, re.MULTILINE))
    found = {source.stem for source in SOURCES if ":orphan:" not in source.read_text(encoding="utf-8")}
    assert found - {"index"} <= listed


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links and all((ROOT / link).exists() for link in links)


def test_the_readme_and_the_page_on_installing_list_every_extra():
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"].keys() - {"test", "docs", "check"}
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    points = re.findall(r"^\* ``(\w+)``:", (DOCS / "install.rst").read_text(encoding="utf-8"), re.MULTILINE)
    assert extras == set(rows) == set(points)


def test_live_code_of_each_extension_is_at_most_forty_lines():
    found = pages.included_code(DOCS / "extending.rst")
    assert found.keys() == {"Classifier", "VmapEngine", "Exact"}
    assert max(found.values()) <= 40


def test_every_message_that_troubleshooting_quotes_is_one_that_the_library_has():
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "sknfk").rglob("*.py"))
    messages = re.sub(r'"\s*\n\s*f?"', "", sources).replace("`", "")
    quoted = re.findall(
        r'\*\*"([^"]+?)(?:\[\.\.\.\])?"\.\*\*', (DOCS / "troubleshooting.rst").read_text(encoding="utf-8")
    )
    assert len(quoted) > 5
    assert not [quote for quote in quoted if " ".join(quote.split()) not in messages]


def test_every_extra_that_is_missing_is_asked_for_in_the_same_words():
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "sknfk").rglob("*.py"))
    words = [found.strip() for found in re.findall(r"([\w ]+) `pip install sknfk\[", sources)]
    assert len(words) > 1 and set(words) == {"Install it with"}


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#here">b</a> <a href="b.html#gone">b</a> <img src="c.png">')
    (tmp_path / "b.html").write_text('<p id="here">b</p> <a href="https://example.org/no">elsewhere</a>')
    assert pages.broken_links(tmp_path) == ["a.html -> b.html#gone", "a.html -> c.png"]


@pytest.mark.skipif(not SITE.is_dir(), reason="the site is not built: `make docs` takes minutes")
def test_every_internal_link_of_the_built_site_leads_somewhere():
    assert not pages.broken_links(SITE)
