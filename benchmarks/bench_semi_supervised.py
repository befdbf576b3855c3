"""Table 2: few labels, many rows: the embedding is fitted on all of them, a probe on those that have a label.

A row is one draw of labels, equally many of each class, and 10,000 rows in all. Beside the probe on each feature set
stands self-training from the same probe, which labels the other rows by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import SelfTrainingClassifier

from .bench_families import all_drawn, labelled_rows
from .features import Features, activations, embedded, reduced
from .measuring import significant
from .own_pairs import is_due, pair_of
from .pairs import Pair
from .probes import MAX_ITERATIONS, Probe, preprocess, probe

TAKES = ("cases", "done")
CASES = ("mlp_gan/mnist", "mlp_gan/fashion", "dcgan/mnist", "dcgan/fashion", "sngan/cifar10")
N_BASE = 10_000
PER_CLASS = (50, 100, 200, 400)  # 500 to 4,000 labels
N_DRAWS = 5
DRAWS = {f"{10 * per_class}/{draw}": (per_class, draw) for per_class in PER_CLASS for draw in range(N_DRAWS)}
CONFIDENCE = 0.9  # from which self-training believes itself


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        X = np.random.default_rng(0).normal(size=(30, 3))
        features = Features({"noise": X}, {"noise": X}, np.arange(30) % 3, np.arange(30) % 3, {})
        yield "noise/15/0", compared(features, 5, 0)
        return
    for key in cases or CASES:
        pair = pair_of(key)
        left = {name: draw for name, draw in DRAWS.items() if f"{key}/{name}" not in done}
        if pair is None or not left:
            continue
        features = sets_of(replace(pair, n_base=N_BASE), device)
        yield key, features.about
        for name, (per_class, draw) in left.items():
            yield f"{key}/{name}", compared(features, per_class, draw)


def is_complete(rows: dict[str, dict]) -> bool:
    """Say whether every draw of every pair is there, but for models that are not trained."""
    return all_drawn(rows, {key: DRAWS for key in CASES if is_due(key, rows)})


def sets_of(pair: Pair, device: str) -> Features:
    (X, pixels, _), (X_test, pixels_test, _) = pair.rows("train"), pair.rows("test")
    features = embedded(pair, (128,), device=device)[1]
    others = {
        "activations": (activations(pair, X), activations(pair, X_test)),
        "PCA-128 of pixels": reduced(pixels, pixels_test),
    }
    base, test = ({name: own[part] for name, own in others.items()} for part in (0, 1))
    return replace(features, base={**features.base, **base}, test={**features.test, **test})


def compared(features: Features, per_class: int, draw: int) -> dict[str, Any]:
    labelled = labelled_rows(features.y_base, str(per_class), draw)
    found = {}
    for name in features.names:
        own = probe(features, name, labelled, draw)
        found[name] = significant(own.accuracy, 6)
        found[f"{name}, self-training"] = significant(self_trained(features, name, labelled, own), 6)
    return {"n_labels": len(labelled), "draw": draw, "n_test": len(features.y_test), "accuracy": found}


def self_trained(features: Features, name: str, labelled: np.ndarray, own: Probe) -> float:
    """Accuracy with the preprocessing and C that the probe chose; rows without a label are -1."""
    base, test = preprocess(
        *(rows[name].astype(np.float64) for rows in (features.base, features.test)), own.choice.preprocessing
    )
    y = np.full(len(base), -1)
    y[labelled] = features.y_base[labelled]
    logistic = LogisticRegression(C=own.choice.C, max_iter=MAX_ITERATIONS)
    return float(SelfTrainingClassifier(logistic, threshold=CONFIDENCE).fit(base, y).score(test, features.y_test))
