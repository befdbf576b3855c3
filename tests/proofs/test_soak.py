"""Hundreds of fits and thousands of transforms leave nothing behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc/self/statm")

ROOT = Path(__file__).resolve().parents[2]
N_FITS, N_TRANSFORMS = 200, 2_000


def test_fits_and_transforms_leave_nothing_behind():
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", str(N_FITS), str(N_TRANSFORMS)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["mib_per_100_fits"] < 1.0, found
    assert found["mib_per_100_transforms"] < 0.2, found
    assert found["after"] == found["before"]
