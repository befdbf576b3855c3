"""When do Fisher features pay? One probe on every feature set, for every family of model, few and many labels.

A row is one draw of labels for one pair of a model and a data set, with the accuracy of every feature set on the same
test rows. 10 draws of 10 and of 100 labels a class; "all": five pools of four fifths of the base, probed in the way
that inner validation on the first of them chooses. Where a model is probed on its own task, base and test are both
the test images, a draw is tested on those without a label, and each pool chooses. Rows that an earlier run has
written are kept, so that a long run can be broken off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from .features import Features, features_of
from .measuring import significant
from .pairs import PAIRS, Pair
from .probes import Choice, Probe, probe

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
        yield from draws_of(key, partial(features_of, pair), draw_names(pair), done)


def is_complete(rows: dict[str, dict]) -> bool:
    """Say whether every draw of every pair is there."""
    return all_drawn(rows, {key: draw_names(pair) for key, pair in PAIRS.items()})


def all_drawn(rows: dict[str, dict], names: Mapping[str, Iterable[str]]) -> bool:
    """Say whether each key has its row and those of its draws."""
    return all({key, *(f"{key}/{name}" for name in own)} <= rows.keys() for key, own in names.items())


def draws_of(
    key: str, make: Callable[[], Features], names: Iterable[str], done: frozenset[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what the feature sets are, then a row for each draw that is not done; make them only if one is left."""
    names = [name for name in names if f"{key}/{name}" not in done]
    if not names:
        return
    features = make()
    yield key, features.about | {"dimensions": {name: features.dimension(name) for name in features.names}}
    weights = {name: features.about[name] for name in ("weights_sha256",) if name in features.about}
    for name, row in measured_draws(features, [name for name in names if possible(features, name)]):
        yield f"{key}/{name}", row | weights


def measured_draws(features: Features, names: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each draw by name with its row; all pools in the way that the first of them chooses.

    On its own task a model is tested on rows that the first pool has seen: there each pool chooses.
    """
    chosen: dict[str, Choice] = {}
    for name in names:
        shared = name.startswith("all/") and not features.on_task
        if shared and not chosen:
            chosen = {own: found.choice for own, found in probed(features, "all/0").items()}
        yield name, measured(features, name, chosen if shared else {})


def draw_names(pair: Pair) -> Iterator[str]:
    """Yield the draws that a pair has labels for: of CIFAR-10 there are 1,017 test images, too few for 100 a class."""
    few = pair.on_task and pair.dataset == "cifar10"
    for per_class in PER_CLASS[:1] if few else PER_CLASS:
        yield from (f"{per_class}/{draw}" for draw in range(N_DRAWS))
    yield from (f"all/{pool}" for pool in range(N_POOLS))


def possible(features: Features, draw_name: str) -> bool:
    """Say whether there are labels enough, and as many rows left to test on where they are the same rows."""
    budget = draw_name.split("/")[0]
    if budget == "all":
        return True
    return np.bincount(features.y_base).min() >= int(budget) * (2 if features.on_task else 1)


def measured(features: Features, draw_name: str, chosen: dict[str, Choice] | None = None) -> dict[str, Any]:
    budget, number = draw_name.split("/")
    found = probed(features, draw_name, chosen)
    labelled = labelled_rows(features.y_base, budget, int(number))
    return {
        "labels": budget,
        "draw": int(number),
        "n_train": len(labelled),
        "n_test": len(features.tested(labelled)),
        "accuracy": {name: significant(own.accuracy, 6) for name, own in found.items()},
        "chosen": {name: f"{own.choice.preprocessing}, C={own.choice.C:g}" for name, own in found.items()},
    }


def probed(features: Features, draw_name: str, chosen: dict[str, Choice] | None = None) -> dict[str, Probe]:
    """Probe every feature set on one draw, those without a chosen way in what inner validation prefers."""
    budget, number = draw_name.split("/")
    labelled = labelled_rows(features.y_base, budget, int(number))
    return {own: probe(features, own, labelled, int(number), (chosen or {}).get(own)) for own in features.names}


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
