"""When do Fisher features pay? One probe on every feature set, for every family of model, few and many labels.

A row is one draw of labels for one pair of a model and a data set, with the accuracy of every feature set on the same
test rows. 10 draws of 10 and of 100 labels a class; "all": five pools of four fifths of the base. Rows that an
earlier run has written are kept, so that a long run can be broken off.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .features import Features, features_of
from .measuring import significant
from .pairs import PAIRS
from .probes import probe

TAKES = ("cases", "done")
N_DRAWS = 10
N_POOLS = 5  # each leaves out every fifth row
PER_CLASS = (10, 100)


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        yield "tiny/noise/3/0", measured(noise(), "3/0")
        return
    for key, pair in PAIRS.items():
        if cases and pair.model.name not in cases and key not in cases:
            continue
        wanted = [name for name in draw_names() if f"{key}/{name}" not in done]
        if not wanted and key in done:
            continue
        features = features_of(pair)
        yield key, features.about | {"dimensions": {name: features.dimension(name) for name in features.names}}
        for name in wanted:
            yield f"{key}/{name}", measured(features, name)


def draw_names() -> Iterator[str]:
    for per_class in PER_CLASS:
        yield from (f"{per_class}/{draw}" for draw in range(N_DRAWS))
    yield from (f"all/{pool}" for pool in range(N_POOLS))


def measured(features: Features, draw_name: str) -> dict[str, Any]:
    budget, number = draw_name.split("/")
    labelled = labelled_rows(features.y_base, budget, int(number))
    found = {name: probe(features, name, labelled, int(number)) for name in features.names}
    return {
        "labels": budget,
        "draw": int(number),
        "n_train": len(labelled),
        "n_test": len(features.y_test),
        "accuracy": {name: significant(own.accuracy, 6) for name, own in found.items()},
        "chosen": {name: f"{own.preprocessing}, C={own.C:g}" for name, own in found.items()},
    }


def noise(n_base: int = 30, n_test: int = 9, width: int = 5) -> Features:
    """Feature sets of nothing, for a smoke run."""
    rng = np.random.default_rng(0)
    base, test = rng.normal(size=(n_base, width)), rng.normal(size=(n_test, width))
    return Features(
        base={"pixels": base},
        test={"pixels": test},
        kernel_base=base @ base.T,
        kernel_test=test @ base.T,
        test_squared_norms=np.square(test).sum(1),
        y_base=np.arange(n_base) % 3,
        y_test=np.arange(n_test) % 3,
        about={"n_parameters": width},
    )


def labelled_rows(y: np.ndarray, budget: str, number: int) -> np.ndarray:
    """Indices of the rows whose labels are seen: as many of each class, or a pool."""
    if budget == "all":
        return np.setdiff1d(np.arange(len(y)), np.arange(number, len(y), N_POOLS))
    generator = np.random.default_rng(number)
    per_class = [generator.permutation(np.flatnonzero(y == label))[: int(budget)] for label in np.unique(y)]
    return np.sort(np.concatenate(per_class))
