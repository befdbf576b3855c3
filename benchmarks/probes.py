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
    coordinates = functools.cache(functools.partial(coordinates_of, features, name, labelled))
    for how in PREPROCESSINGS if choice is None else (choice.preprocessing,):
        yield how, *(part.astype(np.float32) for part in coordinates(how == "StandardScaler").preprocessed(how))


@dataclass(frozen=True)
class Coordinates:
    """Rows in the span of the labelled ones: all that a linear probe with an L2 penalty sees of them.

    ``lengths`` are those of the whole rows, of which a test row's part outside the span is missing here, and
    ``deviation`` is that of their entries, over all columns.
    """

    train: np.ndarray  # (n, d)
    test: np.ndarray  # (M, d)
    lengths: tuple[np.ndarray, np.ndarray]  # (n,), (M,)
    deviation: float
    is_scaled: bool = False  # each column already is

    def preprocessed(self, how: str) -> tuple[np.ndarray, np.ndarray]:
        if how == "unit rows":
            parts = zip((self.train, self.test), self.lengths, strict=True)
            return tuple(rows / np.maximum(lengths, 1e-30)[:, None] for rows, lengths in parts)
        if how == "one global scale":
            return self.train / self.deviation, self.test / self.deviation
        if how == "StandardScaler" and not self.is_scaled:
            scaler = StandardScaler().fit(self.train)
            return scaler.transform(self.train), scaler.transform(self.test)
        return self.train, self.test


def coordinates_of(features: Features, name: str, labelled: np.ndarray, scaled: bool) -> Coordinates:
    """Return the rows of a feature set in the span of the labelled ones, of scaled columns or as they are."""
    if name == KERNEL:
        return kernel_coordinates(features, labelled, scaled)
    train, test = (part.astype(np.float64) for part in (features.base[name][labelled], features.test[name]))
    if scaled:
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
    lengths, deviation = (np.linalg.norm(train, axis=1), np.linalg.norm(test, axis=1)), deviation_of(train)
    return Coordinates(*narrow(train, test), lengths, deviation, is_scaled=scaled)


def deviation_of(train: np.ndarray) -> float:
    return max(float(np.square(train - train.mean(0)).mean()) ** 0.5, 1e-30)


def preprocess(train: np.ndarray, test: np.ndarray, how: str) -> tuple[np.ndarray, np.ndarray]:
    """Return rows in their full width."""
    lengths = np.linalg.norm(train, axis=1), np.linalg.norm(test, axis=1)
    return Coordinates(train, test, lengths, deviation_of(train)).preprocessed(how)


def narrow(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates along axes of the training rows, where they are fewer than the columns."""
    if len(train) >= train.shape[1]:
        return train, test
    axes, coordinates = np.linalg.qr(train.T)  # (d, n), (n, n)
    # Digits beyond float32's go when they are handed on, and this product is what takes time.
    return coordinates.T, test.astype(np.float32) @ axes.astype(np.float32)


def kernel_coordinates(features: Features, labelled: np.ndarray, scaled: bool) -> Coordinates:
    """Return the rows whose products the kernel holds.

    Along principal axes where columns are to be scaled; else in the axes of a pivoted Cholesky factor, which a probe
    cannot tell from them and which takes far less time.
    """
    kernel = features.kernel_base[np.ix_(labelled, labelled)].astype(np.float64)  # (n, n)
    test = features.kernel_test[:, labelled].astype(np.float64)  # (M, n)
    found = (principal_coordinates if scaled else cholesky_coordinates)(kernel, test)
    return Coordinates(*found, (np.sqrt(np.diag(kernel)), np.sqrt(features.test_squared_norms)), deviation_of(found[0]))


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
