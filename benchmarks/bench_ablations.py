"""What each option is worth: the spectrum and a probe, with one option changed at a time.

Fisher information, damping, centring, statistics, their number of samples, and the number of sweeps; ranks are those
of ``rank``. A row is one draw of 100 labels a class, as in ``families``, but of half its rows, since there
are some sixty fits. The row of a fit tells the spectrum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from .bench_families import all_drawn, draws_of, measured
from .features import Features, embedded
from .pairs import PAIRS, Pair

TAKES = ("cases", "done")
CASES = ("mlp_gan/mnist", "vae/mnist", "lenet5/fashion", "resnet20/fashion")
RANKS = (16, 64, 128)
N_ROWS = 2_500  # of base and of test
DRAWS = tuple(f"100/{number}" for number in range(5))
VARIATIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "fisher=factored": {"fisher": "factored"},
    "fisher=identity": {"fisher": "identity"},
    **{f"damping={damping:g}": {"damping": damping} for damping in (0, 1e-4, 1e-2, 1e-1)},
    "center=False": {"center": False},
    "statistics=data": {"statistics": "data"},
    **{f"n_reference={n}": {"statistics": "model", "n_reference": n} for n in (64, 256, 4096)},
    **{f"sweeps={n}": {"solver": "krylov", "tol": 0.0, "max_sweeps": n} for n in range(1, 7)},
}


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        rows = {"NFK-3": np.random.default_rng(0).normal(size=(30, 3))}
        yield "noise/defaults", {"explained_variance": {"3": 1.0}}
        yield "noise/defaults/3/0", measured(Features(rows, rows, np.arange(30) % 3, np.arange(30) % 3, {}), "3/0")
        return
    for key in cases or CASES:
        pair = replace(PAIRS[key], n_base=N_ROWS, n_test=N_ROWS)
        for name, options in variations(pair).items():
            yield from draws_of(f"{key}/{name}", partial(varied, pair, options, device), DRAWS, done)


def is_complete(rows: dict[str, dict]) -> bool:
    """Say whether every draw with every option is there."""
    return all_drawn(rows, {f"{key}/{name}": DRAWS for key in CASES for name in variations(PAIRS[key])})


def variations(pair: Pair) -> dict[str, dict[str, Any]]:
    """Those that say something: a model without samples has statistics of the data alone."""
    if pair.model.name in ("mlp_gan", "vae"):
        return VARIATIONS
    return {name: options for name, options in VARIATIONS.items() if "statistics" not in options}


def varied(pair: Pair, options: dict[str, Any], device: str) -> Features:
    """Only the whole embedding is probed; the spectrum is told for each rank."""
    features = embedded(pair, RANKS, device=device, **options)[1]
    last = f"NFK-{RANKS[-1]}"
    base, test = ({last: rows[last]} for rows in (features.base, features.test))
    return Features(base, test, features.y_base, features.y_test, features.about)
