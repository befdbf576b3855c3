"""The demo runs, writes what it says, and prints the table that the README shows."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.frozen import FrozenEstimator

from sknfk import NFKTransformer

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "examples" / "demo.py"


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["demo"]


@pytest.fixture(scope="module")
def features(demo):
    digits = demo.load_split(n_train=100)
    net = demo.train_on_parity(digits, n_epochs=1)
    nfk = NFKTransformer(FrozenEstimator(net), n_components=64, random_state=0)
    return demo.describe(net, nfk, digits)


def cells(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def structure(table: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the header, and the first two cells of each row: feature set and dimension."""
    header, _, *rows = cells(table)
    return header, [(row[0], row[1]) for row in rows]


def readme_table() -> str:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return readme.split("<!-- demo-table:start -->")[1].split("<!-- demo-table:end -->")[0]


def test_readme_shows_the_table_that_the_demo_prints(demo, features):
    scores = {name: np.zeros((len(demo.N_LABELS), 2)) for name in features}
    assert structure(readme_table()) == structure(demo.tabulate(features, scores))


def test_readme_leaves_no_cell_empty():
    assert all(all(row) for row in cells(readme_table()))


def test_feature_sets_have_a_row_for_every_image(features):
    assert {(len(f.train), len(f.test)) for f in features.values()} == {(100, 597)}


def test_one_label_per_class_is_probed_without_inner_cross_validation(demo):
    assert not hasattr(demo.choose_probe(1), "cv")
    assert hasattr(demo.choose_probe(3), "cv")


@pytest.mark.slow
def test_demo_runs_and_writes_table_and_figure(tmp_path):
    figure = tmp_path / "new" / "figure.png"
    done = subprocess.run(
        [sys.executable, DEMO, "--smoke", "--output", figure], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    table = figure.with_suffix(".md").read_text(encoding="utf-8")
    assert structure(table) == structure(done.stdout) == structure(readme_table())
    assert "Warning" not in done.stderr
    image = imread(figure)[..., :3]
    panels = np.array_split(image, 3, axis=1)
    assert all(len(np.unique(panel.reshape(-1, 3), axis=0)) > 10 for panel in panels)
