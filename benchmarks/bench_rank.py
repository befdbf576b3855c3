"""Figure 7: a probe's accuracy against the rank of the embedding, all ranks from one factorisation.

A row is one draw of labels for one pair of a model and a data set, as in ``families``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from .bench_families import all_drawn, draws_of, measured
from .features import Features, embedded
from .pairs import PAIRS, Pair

TAKES = ("cases", "done")
RANKS = (16, 32, 64, 128, 256, 512)
CASES = ("mlp_gan/mnist", "mlp_gan/fashion", "dcgan/mnist", "vae/fashion", "lenet5/fashion", "resnet20/fashion")
DRAWS = tuple(f"{budget}/{number}" for budget in ("10", "100", "all") for number in range(5))


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        rng = np.random.default_rng(0)
        sets = {f"NFK-{k}": rng.normal(size=(30, k)) for k in (2, 4)}
        yield "noise/10/0", measured(Features(sets, sets, np.arange(30) % 3, np.arange(30) % 3, {}), "3/0")
        return
    for key in cases or CASES:
        yield from draws_of(key, partial(ranks_of, PAIRS[key], device), DRAWS, done)


def is_complete(rows: dict[str, dict]) -> bool:
    """Say whether every draw of every pair is there."""
    return all_drawn(rows, dict.fromkeys(CASES, DRAWS))


def ranks_of(pair: Pair, device: str) -> Features:
    return embedded(pair, RANKS, device=device)[1]
