"""Examples run as a reader would run them."""

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


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
