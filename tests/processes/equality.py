"""The same fits with their rows in one process and spread over several."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from sknfk import NFKTransformer
from sknfk.densities import Discriminator
from sknfk.distributed import alone
from sknfk.estimators import _plan
from sknfk.fisher import SpreadBlocks

from ..cases import convnet, mlp, rows, seeded
from .group import run

K = 4
SIZES = (1, 2, 3, 4)
X = rows(90)
IMAGES = rows(90, 1, 8, 8).astype(np.float32)
MANY, MANY_IMAGES = rows(700), rows(700, 1, 8, 8).astype(np.float32)  # more than a Gram matrix is made of
X_TEST, TEST_IMAGES = rows(20, seed=1), rows(20, 1, 8, 8, seed=1).astype(np.float32)

# Where the rows of process r of n end, as shares of all: equal, most in the first, none in the last.
SPLITS: dict[str, Callable[[int, int], float]] = {
    "equal": lambda r, n: r / n,
    "unequal": lambda r, n: (r / n) ** 0.2,
    "none in the last": lambda r, n: min(1.0, r / max(1, n - 1)),
}


def generator() -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 5)), seed=1)


def nfk(**options: Any) -> NFKTransformer:
    options = {"solver": "krylov", "batch_size": 16, "random_state": 0, "tol": 1e-9, **options}
    return NFKTransformer(options.pop("model", None) or mlp(), options.pop("n_components", K), **options)


def images(**options: Any) -> NFKTransformer:
    return nfk(model=convnet().float(), **options)


# name -> (estimator, rows, rows to embed, split)
CASES: dict[str, tuple[Callable[[], NFKTransformer], np.ndarray, np.ndarray, str]] = {
    "krylov": (nfk, X, X_TEST, "equal"),
    "unequal rows": (nfk, X, X_TEST, "unequal"),
    "no rows in one": (nfk, X, X_TEST, "none in the last"),
    "subspace": (lambda: nfk(solver="subspace", max_sweeps=40), X, X_TEST, "equal"),
    "auto": (lambda: nfk(solver="auto", n_components=20, tol=1e-13), X, X_TEST, "equal"),
    "a share": (lambda: nfk(n_components=0.9), X, X_TEST, "equal"),
    "more than there are": (lambda: nfk(n_components=80), X[:30], X[:30], "unequal"),
    "not centred": (lambda: nfk(center=False, fisher="identity"), X, X_TEST, "equal"),
    "samples of the model": (lambda: nfk(model=mlp(5, 1), density=Discriminator(generator())), X, X_TEST, "equal"),
    "reference rows": (lambda: nfk(statistics=rows(33, seed=2)), X, X_TEST, "equal"),
    "spread blocks": (nfk, X, X_TEST, "none in the last"),
    "spread subspace": (lambda: nfk(solver="subspace", max_sweeps=40), X, X_TEST, "equal"),
    "spread blocks of a share": (lambda: nfk(n_components=0.9), X, X_TEST, "equal"),
    "spread blocks of all there are": (lambda: nfk(n_components=80), X[:30], X[:30], "equal"),
    "spread float32": (lambda: images(gradient_cache="ram", tol=1e-5), IMAGES, TEST_IMAGES, "unequal"),
    "sketch": (lambda: nfk(solver="sketch", sketch_width=64), X, X_TEST, "unequal"),
    "sketch of many rows": (lambda: nfk(solver="sketch", sketch_width=64), MANY, X_TEST, "none in the last"),
    "sketch-refined": (lambda: nfk(solver="sketch-refined", sketch_width=64), X, X_TEST, "none in the last"),
    "sketch-refined of many rows": (lambda: nfk(solver="sketch-refined", sketch_width=64), MANY, X_TEST, "equal"),
    "sketch of a share": (lambda: nfk(n_components=0.9, solver="sketch", sketch_width=70), MANY, X_TEST, "equal"),
    "float32 sketch": (lambda: images(solver="sketch", sketch_width=64), MANY_IMAGES, TEST_IMAGES, "equal"),
    "float32": (lambda: images(gradient_cache=None, tol=1e-5), IMAGES, TEST_IMAGES, "equal"),
    "float32 with a cache": (lambda: images(gradient_cache="ram", tol=1e-5), IMAGES, TEST_IMAGES, "none in the last"),
}
# Those that every size of a group is tried on; the others on two processes.
OF_EVERY_SIZE = (
    "krylov",
    "unequal rows",
    "no rows in one",
    "spread blocks",
    "float32 with a cache",
    "sketch of many rows",
)


def cases_of(size: int) -> tuple[str, ...]:
    return tuple(CASES) if size == 2 else OF_EVERY_SIZE


def part_of(rows: np.ndarray, split: str, rank: int, size: int) -> np.ndarray:
    ends = [round(len(rows) * SPLITS[split](r, size)) for r in range(size)] + [len(rows)]
    return rows[ends[rank] : ends[rank + 1]]


def fitted(name: str, rank: int, size: int) -> dict[str, Any]:
    make, given, to_embed, split = CASES[name]
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        # These models are so small that blocks would be whole, as they are in large groups of slow networks.
        patch.setattr(_plan, "select_spread", lambda *_: (name.startswith("spread"), "The study says so."))
        joined = counted(patch)
        found = make().fit(part_of(given, split, rank, size))
    attributes = ("components_", "singular_values_", "explained_variance_ratio_", "total_variance_", "mean_score_")
    return {
        **{attribute: getattr(found, attribute) for attribute in attributes},
        "information_": found.information_,
        "solver_": found.solver_,
        "is_spread": bool(joined),
        "embedding": found.transform(to_embed),
        "n_rows": len(part_of(given, split, rank, size)),
    }


def counted(patch: pytest.MonkeyPatch) -> list[int]:
    """Note each sweep of blocks that are spread."""
    noted, sweep = [], SpreadBlocks.sweep

    def noting(self, W):
        noted.append(len(W))
        return sweep(self, W)

    patch.setattr(SpreadBlocks, "sweep", noting)
    return noted


def all_cases(rank: int, size: int, folder: Path) -> dict[str, Any]:
    return {name: fitted(name, rank, size) for name in cases_of(size)}


def not_joined(rank: int, size: int, folder: Path) -> dict[str, Any]:
    return {name: fitted(name, 0, 1) for name in CASES}


def one_alone(rank: int, size: int, folder: Path) -> dict[str, Any] | None:
    """Only one process fits, all rows, while the other does nothing."""
    if rank:
        return None
    with alone():
        return fitted("krylov", 0, 1)


def study(folder: Path) -> dict[str, Any]:
    return {
        "one process": run(not_joined, 1, folder / "alone", joined=False)[0],
        "groups": {size: run(all_cases, size, folder / str(size)) for size in SIZES},
        "one alone": run(one_alone, 2, folder / "one")[0],
    }
