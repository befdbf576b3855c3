"""Examples run as a reader would run them; those of the gallery on few images."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

TESTED_ABOVE = {
    "plot_distillation.py",
    "plot_gradient_features.py",
    "plot_inversion.py",
    "plot_low_rank.py",
    "plot_retrieval.py",
}


def printed(name: str) -> str:
    command = [sys.executable, EXAMPLES / name]
    environment = {**os.environ, "MPLBACKEND": "agg"}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, env=environment).stdout


def test_the_example_with_few_labels_runs_and_reads_most_hidden_digits():
    accuracy = float(re.search(r"without a label (0\.\d+)", printed("few_labels.py")).group(1))
    assert accuracy > 0.75


def test_the_example_of_low_rank_has_fewer_directions_and_classifies_as_well():
    text = printed("plot_low_rank.py")
    accuracies = [float(found) for found in re.findall(r": accuracy (\d\.\d+)", text)]
    outside = [1 - float(found) for found in re.findall(r" 3: .* share of 5 components (\d\.\d+)", text)]
    assert outside[1] < 0.3 * outside[0]
    assert min(accuracies) > 0.93


def test_the_example_of_retrieval_finds_digits_and_what_speaks_for_them():
    text = printed("plot_retrieval.py")
    found = dict(re.findall(r"(.+): mean average precision (\d\.\d+)", text))
    assert len(found) == 4 and all(0.2 < float(value) <= 1 for value in found.values())
    before, after = map(float, re.search(r"of its class (\d\.\d+), and (\d\.\d+) without", text).groups())
    assert after < before


def test_the_example_of_gradient_features_reads_more_than_activations():
    text = printed("plot_gradient_features.py")
    found = {
        way: float(value) for way, value in re.findall(r"^(.*, .*): (0\.\d+) from 400 labels$", text, re.MULTILINE)
    }
    assert found["trained, activation"] + 0.03 < found["trained, gradient"]
    assert found["trained, activation"] + 0.03 < found["trained, full"]
    assert found["random weights, full"] + 0.1 < found["trained, full"]


def test_the_example_of_distillation_gains_by_the_embedding_and_not_by_that_of_other_rows():
    text = printed("plot_distillation.py")
    found = {
        way: float(value) for way, value in re.findall(r"^(labels alone|embedding.*): (0\.\d+)", text, re.MULTILINE)
    }
    assert found["embedding"] > found["labels alone"] + 0.01
    assert found["embedding of other rows"] < found["labels alone"] + 0.01


def test_the_example_of_inversion_reads_latent_variables():
    text = printed("plot_inversion.py")
    assert all(float(found) > 0.3 for found in re.findall(r"generator (\d\.\d+)", text))
    agreement = dict(re.findall(r"(.+): pixel error .* digit (\d\.\d+)", text))
    assert set(agreement) == {"images", "NFK to G", "PCA to G", "PCA decoding"}
    assert float(agreement["NFK to G"]) > 0.4


@pytest.mark.parametrize("name", sorted({path.name for path in EXAMPLES.glob("plot_*.py")} - TESTED_ABOVE))
def test_an_example_of_the_gallery_runs_on_few_images_and_draws(name, monkeypatch, capsys):
    monkeypatch.setenv("SKNFK_SMALL", "1")
    monkeypatch.syspath_prepend(EXAMPLES)
    for shared in ("parity", "small_gan"):
        monkeypatch.delitem(sys.modules, shared, raising=False)
    before = set(plt.get_fignums())
    with torch.random.fork_rng(), plt.rc_context({"backend": "agg"}):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    drawn = set(plt.get_fignums()) - before
    for number in drawn:
        plt.close(number)
    assert drawn
    assert "nan" not in capsys.readouterr().out
