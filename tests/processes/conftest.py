"""Runs a study of groups of processes in a process that may fork."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import distributed as dist

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items):
    if not (hasattr(os, "fork") and dist.is_available() and dist.is_gloo_available()):
        for item in items:
            if ROOT / "tests" / "processes" in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="needs os.fork and gloo"))


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *sys.path])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def study(name: str, folder: Path) -> Any:
    command = [sys.executable, "-m", "tests.processes.group", name, str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    found = folder / "found"
    return pickle.loads(found.read_bytes())
