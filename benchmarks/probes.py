"""One probe for every feature set: logistic regression, its C and the preprocessing chosen by inner validation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from .features import KERNEL, Features

C_GRID = (1e-2, 1e-1, 1.0, 1e1, 1e2)
N_FOLDS = 3
MAX_ITERATIONS = 200
PREPROCESSINGS = ("none", "unit rows", "one global scale", "StandardScaler")
# Directions of a kernel whose eigenvalue is below this share of the first are float32's rounding.
KERNEL_RTOL = 1e-6


@dataclass(frozen=True)
class Probe:
    """What a probe reached on the test rows, and what inner validation chose."""

    accuracy: float
    preprocessing: str
    C: float


def probe(features: Features, name: str, labelled: np.ndarray, seed: int) -> Probe:
    """Fit on the labelled rows of the base, in every way; test the way that inner validation prefers.

    Where base and test are the same rows, those without a label are the test.
    """
    y = features.y_base[labelled]
    tested = features.tested(labelled)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    best, best_score = None, -1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for preprocessing, train, test in prepared(features, name, labelled):
            # It goes from the smallest C to the largest, each starting from the one before.
            search = LogisticRegressionCV(
                Cs=C_GRID,
                cv=folds,
                scoring="accuracy",
                max_iter=MAX_ITERATIONS,
                l1_ratios=(0,),
                use_legacy_attributes=False,
            ).fit(train, y)
            score = search.scores_.mean(0).max()
            if score > best_score:
                best_score = score
                best = Probe(
                    float((search.predict(test[tested]) == features.y_test[tested]).mean()),
                    preprocessing,
                    float(search.C_),
                )
    assert best is not None
    return best


def prepared(features: Features, name: str, labelled: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield each preprocessing with the labelled rows and the test rows."""
    if name == KERNEL:
        raw, unit = (kernel_coordinates(features, labelled, unit_rows) for unit_rows in (False, True))
        for preprocessing in PREPROCESSINGS:
            yield preprocessing, *(unit if preprocessing == "unit rows" else preprocess(*raw, preprocessing))
        return
    train, test = (rows.astype(np.float64) for rows in (features.base[name][labelled], features.test[name]))
    for preprocessing in PREPROCESSINGS:
        yield preprocessing, *narrow(*preprocess(train, test, preprocessing))


def preprocess(train: np.ndarray, test: np.ndarray, how: str) -> tuple[np.ndarray, np.ndarray]:
    if how == "unit rows":
        return tuple(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30) for rows in (train, test))
    if how == "one global scale":
        scale = max(float(np.square(train - train.mean(0)).mean()) ** 0.5, 1e-30)
        return train / scale, test / scale
    if how == "StandardScaler":
        scaler = StandardScaler().fit(train)
        return scaler.transform(train), scaler.transform(test)
    return train, test


def narrow(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in the span of fewer training rows than columns: all that a linear probe with an L2 penalty sees."""
    if len(train) >= train.shape[1]:
        return train, test
    _, _, axes = np.linalg.svd(train, full_matrices=False)
    return train @ axes.T, test @ axes.T


def kernel_coordinates(features: Features, labelled: np.ndarray, unit_rows: bool) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in the span of the labelled Fisher vectors: all that a linear probe with an L2 penalty sees."""
    kernel = features.kernel_base[np.ix_(labelled, labelled)].astype(np.float64)  # (n, n)
    test = features.kernel_test[:, labelled].astype(np.float64)  # (M, n)
    if unit_rows:
        lengths, test_lengths = np.sqrt(np.diag(kernel)), np.sqrt(features.test_squared_norms)
        kernel, test = kernel / np.outer(lengths, lengths), test / np.outer(test_lengths, lengths)
    values, vectors = np.linalg.eigh(kernel)
    kept = values > KERNEL_RTOL * values[-1]
    roots = np.sqrt(values[kept])
    return vectors[:, kept] * roots, test @ (vectors[:, kept] / roots)
