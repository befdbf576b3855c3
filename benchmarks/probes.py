"""One probe for every feature set: logistic regression, its C and the preprocessing chosen by inner validation."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import joblib
import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dpstrf
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from .features import KERNEL, Features
from .trained import CACHE

C_GRID = (1e-2, 1e-1, 1.0, 1e1, 1e2)
N_FOLDS = 3
MAX_ITERATIONS = 100
PREPROCESSINGS = ("none", "unit rows", "one global scale", "StandardScaler")
# Directions of a kernel whose eigenvalue is below this share of the first are float32's rounding.
KERNEL_RTOL = 1e-6
# Feature sets that no model has a part in: the same for all models of a data set, and probed once.
OF_PIXELS = ("PCA-128 of pixels", "pixels")

VERSION = 1  # raise it when a probe changes: stored answers of another version are not read
memory = joblib.Memory(CACHE / f"probes-v{VERSION}", verbose=0)


@dataclass(frozen=True)
class Choice:
    """What inner validation prefers."""

    preprocessing: str
    C: float


@dataclass(frozen=True)
class Probe:
    """What a probe reached on the test rows, and how it was fitted."""

    accuracy: float
    choice: Choice


def probe(features: Features, name: str, labelled: np.ndarray, seed: int, choice: Choice | None = None) -> Probe:
    """Fit on the labelled rows of the base in the way that inner validation on them prefers, or in a given one; test.

    Where base and test are the same rows, those without a label are the test.
    """
    if name in OF_PIXELS:
        return _of_pixels(_alone(features, name), name, labelled, seed, choice)
    return _probed(features, name, labelled, seed, choice)


def _alone(features: Features, name: str) -> Features:
    """One feature set and its labels: equal for two models of the same rows."""
    about = {"on_task": features.on_task}
    return Features({name: features.base[name]}, {name: features.test[name]}, features.y_base, features.y_test, about)


def _probed(features: Features, name: str, labelled: np.ndarray, seed: int, choice: Choice | None) -> Probe:
    y, tested = features.y_base[labelled], features.tested(labelled)
    ways = {how: (train, test[tested]) for how, train, test in prepared(features, name, labelled, choice)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if choice is None:
            choice = choose({how: train for how, (train, _) in ways.items()}, y, seed)
        train, test = ways[choice.preprocessing]
        classifier = LogisticRegression(C=choice.C, max_iter=MAX_ITERATIONS).fit(train, y)
    return Probe(float((classifier.predict(test) == features.y_test[tested]).mean()), choice)


_of_pixels = memory.cache(_probed)


def choose(ways: dict[str, np.ndarray], y: np.ndarray, seed: int) -> Choice:
    """Return the preprocessing and C of the best mean accuracy over the folds; the first of equals."""
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    scores = {}
    for preprocessing, train in ways.items():
        # It goes from the smallest C to the largest, each starting from the one before.
        search = LogisticRegressionCV(
            Cs=C_GRID,
            cv=folds,
            scoring="accuracy",
            max_iter=MAX_ITERATIONS,
            l1_ratios=(0,),
            refit=False,
            use_legacy_attributes=False,
        ).fit(train, y)
        means = np.reshape(search.scores_, (N_FOLDS, len(C_GRID))).mean(0)
        scores |= {Choice(preprocessing, C): mean for C, mean in zip(C_GRID, means, strict=True)}
    return max(scores, key=scores.__getitem__)


def prepared(
    features: Features, name: str, labelled: np.ndarray, choice: Choice | None = None
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield each preprocessing, or the chosen one, with the labelled rows and the test rows.

    In float32, as the features are made: a fit takes half the time of one in float64.
    """
    coordinates = functools.cache(functools.partial(kernel_coordinates, features, labelled))
    for how in PREPROCESSINGS if choice is None else (choice.preprocessing,):
        if name == KERNEL:
            principal = how == "StandardScaler"
            made = coordinates(True) if how == "unit rows" else preprocess(*coordinates(False, principal), how)
        else:
            raw = (part.astype(np.float64) for part in (features.base[name][labelled], features.test[name]))
            made = narrow(*preprocess(*raw, how))
        yield how, *(part.astype(np.float32) for part in made)


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


def kernel_coordinates(
    features: Features, labelled: np.ndarray, unit_rows: bool, principal: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in the span of the labelled Fisher vectors: all that a linear probe with an L2 penalty sees.

    Along principal axes, as a scaling of each column needs; else in the axes of a pivoted Cholesky factor, which a
    probe cannot tell from them and which takes a twentieth of the time.
    """
    kernel = features.kernel_base[np.ix_(labelled, labelled)].astype(np.float64)  # (n, n)
    test = features.kernel_test[:, labelled].astype(np.float64)  # (M, n)
    if unit_rows:
        lengths, test_lengths = np.sqrt(np.diag(kernel)), np.sqrt(features.test_squared_norms)
        kernel, test = kernel / np.outer(lengths, lengths), test / np.outer(test_lengths, lengths)
    return (principal_coordinates if principal else cholesky_coordinates)(kernel, test)


def principal_coordinates(kernel: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(kernel)
    kept = values > KERNEL_RTOL * values[-1]
    roots = np.sqrt(values[kept])
    return vectors[:, kept] * roots, test @ (vectors[:, kept] / roots)


def cholesky_coordinates(kernel: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    factor, pivots, rank, _ = dpstrf(kernel, tol=KERNEL_RTOL * np.diag(kernel).max(), lower=True)
    L, order = np.tril(factor)[:, :rank], pivots - 1  # kernel[order][:, order] = L L^T
    train = np.empty_like(L)
    train[order] = L
    return train, solve_triangular(L[:rank], test[:, order[:rank]].T, lower=True).T
