"""Many fits and transforms in one process: ``python -m tests.soak N_FITS N_TRANSFORMS`` prints what is left of them."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sknfk import NFKTransformer

from .cases import convnet, rows

N_WARM_UP = 20
N_READINGS = 10
MIB = 2**20


def resident_bytes() -> int:
    """Resident memory once everything that can be is given back."""
    gc.collect()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).malloc_trim(0)
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def left_behind() -> dict[str, int]:
    """What a leak would leave more of."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if isinstance(thing, torch.Tensor)]
    hooks = [
        len(thing._forward_hooks) + len(thing._forward_pre_hooks) + len(thing._backward_hooks)
        for thing in gc.get_objects()
        if isinstance(thing, torch.nn.Module)
    ]
    return {
        "tensors": len(tensors),
        "hooks": sum(hooks),
        "threads": threading.active_count(),
        "file descriptors": len(os.listdir("/proc/self/fd")),
    }


def slope_per_hundred(work: Callable[[int], None], n_times: int) -> tuple[float, list[float]]:
    """Bytes of resident memory that a hundred more calls cost, by least squares, and the readings in MiB."""
    readings = [(0, resident_bytes())]
    for index in range(n_times):
        work(index)
        if (index + 1) % max(1, n_times // N_READINGS) == 0:
            readings.append((index + 1, resident_bytes()))
    x, y = np.array(readings, dtype=float).T
    return float(np.polyfit(x, y, 1)[0]) * 100, [round(value / MIB, 2) for value in y]


def main(n_fits: int, n_transforms: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    X = rows(96, 1, 8, 8).astype(np.float32)
    model = convnet().float()
    kept: list[NFKTransformer] = []

    def fit(index: int) -> None:
        # Another batch size each time: buffers of one must not stay beside those of the next.
        options = {"batch_size": 8 + index % 17, "solver": ("krylov", "subspace")[index % 2], "random_state": index}
        kept[:] = [NFKTransformer(model, 8, max_sweeps=3, tol=0.9, **options).fit(X)]

    def transform(index: int) -> None:
        kept[0].transform(X[: 16 + index % 80])

    for index in range(N_WARM_UP):
        fit(index)
        transform(index)
    before = left_behind()
    fit_slope, fit_readings = slope_per_hundred(fit, n_fits)
    transform_slope, transform_readings = slope_per_hundred(transform, n_transforms)
    return {
        "n_fits": n_fits,
        "n_transforms": n_transforms,
        "mib_per_100_fits": round(fit_slope / MIB, 4),
        "mib_per_100_transforms": round(transform_slope / MIB, 4),
        "mib_after_fits": fit_readings,
        "mib_after_transforms": transform_readings,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "before": before,
        "after": left_behind(),
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
