"""Examples run as a reader would run them."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def test_the_example_with_few_labels_runs_and_reads_most_hidden_digits():
    found = subprocess.run(
        [sys.executable, EXAMPLES / "few_labels.py"], capture_output=True, text=True, check=True, timeout=120
    )
    accuracy = float(re.search(r"without a label (0\.\d+)", found.stdout).group(1))
    assert accuracy > 0.75
