"""Figure 3, bottom right: the error of each eigenvalue beside the variance that the leading ones explain.

LeNet-5, 10,000 MNIST images, the 128 leading eigenvalues, against a solve in float64. A row is one tolerance or number
of sweeps of the default solver, or the paper's algorithm with ten iterations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import ours
from .cases import CASES, Case
from .measuring import significant, timed
from .reference import reference

TAKES = ("cases", "done")
WAYS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "tol=1e-4": {"tol": 1e-4},
    **{f"sweeps={n}": {"solver": "krylov", "tol": 0.0, "max_sweeps": n} for n in (2, 3, 4, 6)},
    "paper": {"solver": "paper"},
}


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        yield from compared(CASES["tiny"](150), 4, device, ["defaults", "sweeps=2"])
        return
    yield from compared(CASES["lenet5"](10_000), 128, device, [way for way in cases or WAYS if way not in done])


def is_complete(rows: dict[str, dict]) -> bool:
    return WAYS.keys() <= rows.keys()


def compared(case: Case, n_components: int, device: str, ways: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if not ways:
        return
    truth = reference(case, n_components).eigenvalues
    for way in ways:
        seconds, nfk = timed(
            lambda way=way: ours.fit(case, n_components, torch.device(device), **WAYS[way]), torch.device(device)
        )
        found = torch.from_numpy(np.array(nfk.singular_values_)).double().square()
        yield (
            way,
            {"n_examples": case.n_examples, "seconds": significant(seconds), **errors(found, truth)}
            | {
                "explained_variance": [significant(float(share)) for share in np.cumsum(nfk.explained_variance_ratio_)],
                **ours.plan(nfk),
            },
        )


def errors(found: Tensor, truth: Tensor) -> dict[str, Any]:
    relative = (found / truth - 1).abs()
    return {
        "n_components": len(truth),
        "relative_errors": [significant(float(error), 3) for error in relative],
        "largest": significant(float(relative.max()), 3),
        "median": significant(float(relative.median()), 3),
    }
