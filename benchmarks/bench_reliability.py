"""What a fit survives: kills, damage, full disks, hundreds of repetitions.

The scenarios are those of tests/kills.py and tests/soak.py, each in processes of its own, in greater number.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sknfk.exceptions import DamagedFileError
from sknfk.persistence import read_arrays, write_arrays

from .cases import DATA_ROOT

ROOT = Path(__file__).resolve().parent.parent
TAKES: tuple[str, ...] = ()
N_RANDOM_KILLS = 100
N_MUTANTS = 10_000
N_FITS, N_TRANSFORMS = 200, 2_000


def rows(device: str, smoke: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "damage", damage(50 if smoke else N_MUTANTS)
    yield "soak", script("tests.soak", *((2, 20) if smoke else (N_FITS, N_TRANSFORMS)))
    if not smoke:
        with tempfile.TemporaryDirectory() as folder:
            yield "kills", script("tests.kills", folder, N_RANDOM_KILLS)


def script(name: str, *arguments: Any) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{DATA_ROOT}"}
    command = [sys.executable, "-m", name, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def damage(n_mutants: int) -> dict[str, Any]:
    """Change one byte of a file, in header and tensors by turns, and read it."""
    rng = random.Random(1)
    generator = torch.Generator().manual_seed(0)
    n_found = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        write_arrays(path, {"components": torch.randn(64, 500, generator=generator)}, {"tol": 1e-3})
        original = path.read_bytes()
        header = 8 + int.from_bytes(original[:8], "little")
        for index in range(n_mutants):
            damaged = bytearray(original)
            damaged[rng.randrange(header) if index % 2 else rng.randrange(len(original))] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            try:
                read_arrays(path)
            except DamagedFileError:
                n_found += 1
    return {"file_bytes": len(original), "tried": n_mutants, "found": n_found, "seed": 1}
