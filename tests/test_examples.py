"""Examples run as a reader would run them; those of the gallery on few images."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

GALLERY = sorted(path.name for path in EXAMPLES.glob("plot_*.py"))
TESTED_ABOVE = {
    "plot_distillation.py",
    "plot_gradient_features.py",
    "plot_inversion.py",
    "plot_low_rank.py",
    "plot_retrieval.py",
    "plot_spectrum.py",
}


def printed(name: str, **variables: str) -> str:
    command = [sys.executable, EXAMPLES / name]
    environment = {**os.environ, "MPLBACKEND": "agg", **variables}
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
    r2 = [float(found) for found in re.findall(r"generator (-?\d\.\d+)", text)]
    assert len(r2) == 3 and min(r2) > 0.3
    agreement = dict(re.findall(r"(.+): pixel error .* digit (\d\.\d+)", text))
    assert set(agreement) == {"images", "NFK to G", "PCA of pixels to G", "PCA of activations to G", "PCA decoding"}
    assert float(agreement["NFK to G"]) > 0.4


def test_the_example_of_spectra_has_those_that_its_text_calls_steeper():
    panel, *of_gan = printed("plot_spectrum.py").split("discriminator, statistics of the ")
    classifier, of_model, of_data = (spectra(text) for text in (panel, *of_gan))
    for fisher in ("diag", "identity"):
        assert (classifier[f"trained, {fisher}"] > classifier[f"untrained, {fisher}"])[:3].all()
        assert (of_model[f"trained, {fisher}"] < of_model[f"untrained, {fisher}"])[:3].all()
        first, *_, mean_shift = of_model[f"untrained, {fisher}"]
        assert 0.8 * first < mean_shift < first
    assert (of_data["trained, diag"] > of_data["untrained, diag"])[:3].all()
    assert (of_data["trained, identity"] < of_data["untrained, identity"])[:3].all()


def spectra(panel: str) -> dict[str, np.ndarray]:
    """Shares of 1, 8 and 64 components and the mean shift, by state and whitening."""
    lines = re.findall(r"^  (\w+, \w+) +(.*)$", panel, re.MULTILINE)
    return {name: np.array(numbers.split(), dtype=float) for name, numbers in lines}


@pytest.mark.slow
@pytest.mark.parametrize("name", GALLERY)
def test_an_example_of_the_gallery_takes_less_than_a_minute_of_one_core(name):
    before = os.times()
    printed(name, OMP_NUM_THREADS="1")
    after = os.times()
    # The child's own time, which other work on the machine does not lengthen.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 60


@pytest.mark.parametrize("name", sorted(set(GALLERY) - TESTED_ABOVE))
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
