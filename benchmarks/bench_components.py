"""Figure 6: the test images with the largest projections on each component, and how often they show the same thing.

A row is one pair of a model and a data set. Of both ends of the 32 leading components, ten images each: the share that
has the commonest label among them. Beside it the same for principal components of activations and of pixels, and for
ten images at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .features import activations, embedded, reduced
from .measuring import significant
from .pairs import PAIRS, Pair

TAKES = ("cases", "done")
CASES = ("mlp_gan/mnist", "dcgan/mnist", "dcgan/fashion", "vae/fashion", "lenet5/fashion")
N_COMPONENTS, N_IMAGES = 32, 10
N_SHOWN = 8  # components whose images are named, by their place among the test rows


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        rng = np.random.default_rng(0)
        yield "noise", described({"NFK-3": rng.normal(size=(30, 3))}, np.arange(30) % 3)
        return
    for key in cases or CASES:
        if key not in done:
            yield key, row(PAIRS[key], device)


def is_complete(rows: dict[str, dict]) -> bool:
    return set(CASES) <= rows.keys()


def row(pair: Pair, device: str) -> dict[str, Any]:
    (X, pixels, _), (X_test, pixels_test, y_test) = pair.rows("train"), pair.rows("test")
    nfk, features = embedded(pair, (128,), device=device)
    sets = {
        **features.test,
        "activations-PCA-128": reduced(activations(pair, X), activations(pair, X_test))[1],
        "PCA-128 of pixels": reduced(pixels, pixels_test)[1],
    }
    shares = [significant(float(share)) for share in nfk.explained_variance_ratio_[:N_SHOWN]]
    return features.about | {"shares": shares} | described(sets, y_test)


def described(sets: dict[str, np.ndarray], y: np.ndarray) -> dict[str, Any]:
    """Name the images of the first set's leading components, and tell the purity of every set's."""
    first = next(iter(sets.values()))
    rng = np.random.default_rng(0)
    at_random = [rng.choice(len(y), N_IMAGES, replace=False) for _ in range(1_000)]
    return {
        "images": [rows.tolist() for rows in ends(first[:, :N_SHOWN])],
        "labels": [y[rows].tolist() for rows in ends(first[:, :N_SHOWN])],
        "purity": {
            **{name: significant(purity(ends(Z[:, :N_COMPONENTS]), y)) for name, Z in sets.items()},
            "at random": significant(purity(at_random, y)),
        },
    }


def ends(Z: np.ndarray) -> list[np.ndarray]:
    """Rows with the largest, then those with the smallest projection on each component, ten of each."""
    order = np.argsort(Z, axis=0, kind="stable")
    return [rows for column in order.T for rows in (column[: -N_IMAGES - 1 : -1], column[:N_IMAGES])]


def purity(groups: list[np.ndarray], y: np.ndarray) -> float:
    """Mean share of a group's commonest label."""
    return float(np.mean([np.unique(y[rows], return_counts=True)[1].max() / len(rows) for rows in groups]))
