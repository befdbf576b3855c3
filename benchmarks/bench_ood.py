"""Out of distribution: MNIST test images against other images, by scores that a model of MNIST gives.

AUROC with a bootstrap interval of 95 %: 0.5 is chance; a score is large where a row is strange. ``typicality`` is the
distance of the log-density from its mean on the training rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from sknfk import NFKTransformer
from sknfk._torch import exact_arithmetic

from .features import activations, fitted, stored, weights_digest
from .measuring import significant
from .pairs import GENERATIVE, SLOW, TRAINED, Pair, grey_images

TAKES = ("cases", "done")
MODELS = (*GENERATIVE, "lenet5")
N_BOOTSTRAP = 1_000
N_ROWS = 2_000


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        rng = np.random.default_rng(0)
        yield "noise", {"auroc": auroc(rng.normal(size=20), rng.normal(size=20) + 1, n_bootstrap=20)}
        return
    for name in MODELS:
        if name not in done and (not cases or name in cases):
            yield name, row(Pair(TRAINED[name], "mnist", *SLOW.get(name, (5_000, N_ROWS))))


def is_complete(rows: dict[str, dict]) -> bool:
    """Say whether every model is there."""
    return rows.keys() >= set(MODELS)


def row(pair: Pair) -> dict[str, Any]:
    X = pair.rows("train")[0]
    nfk, _ = fitted(pair)
    scores = scores_of(pair, nfk, X)
    n_rows = min(N_ROWS, pair.n_test)
    mnist = grey_images("mnist", "test")[0][:n_rows]
    inside = scores(mnist)
    strange = {
        "usps": grey_images("usps", "test")[0][:n_rows],
        "upside-down": mnist[:, ::-1, ::-1].copy(),
        "blurred": blurred(mnist),
        "fashion": grey_images("fashion", "test")[0][:n_rows],
    }
    found = {}
    for dataset, images in strange.items():
        outside = scores(images)
        found[dataset] = {name: auroc(inside[name], outside[name]) for name in inside}
    return {
        "family": pair.model.family,
        "weights_sha256": weights_digest(pair),
        "n_train": len(X),
        "n_inside": len(mnist),
        "n_outside": {dataset: len(images) for dataset, images in strange.items()},
        "n_bootstrap": N_BOOTSTRAP,
        "auroc": found,
    }


def scores_of(pair: Pair, nfk: Any, X: np.ndarray) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Scores of grey images, each large where a row is strange."""
    typical = float(nfk.log_density(X).mean())
    features = stored(pair)  # ``families`` has them of the same rows
    embedding = LedoitWolf().fit(nfk.transform(X) if features is None else features.base["NFK-128"])
    known = LedoitWolf().fit(activations(pair, X) if features is None else features.base["activations"])

    def scores(images: np.ndarray) -> dict[str, np.ndarray]:
        rows = pair.model.read(torch.from_numpy(images)).numpy()
        log_density = np.asarray(nfk.log_density(rows))
        embedded, lengths = embedded_with_lengths(nfk, rows)
        return {
            "residual": lengths - np.square(embedded).sum(1),
            "length of V": lengths,
            "log-density": -log_density,
            "typicality": np.abs(log_density - typical),
            "Mahalanobis of the embedding": embedding.mahalanobis(embedded),
            "Mahalanobis of the activations": known.mahalanobis(activations(pair, rows)),
        }

    return scores


def embedded_with_lengths(nfk: NFKTransformer, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The embedding and squared lengths of the Fisher vectors, in one pass; ``transform`` and ``residual`` take two."""
    vectors, components = nfk.operator(X).torch, torch.from_numpy(np.array(nfk.components_.T))
    embedded, lengths = [], []
    with exact_arithmetic(vectors.device):
        for rows in vectors.row_blocks():
            embedded.append((rows @ components).double())
            lengths.append(torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square())
    return torch.cat(embedded).numpy(), torch.cat(lengths).numpy()


def blurred(images: np.ndarray) -> np.ndarray:
    """A box of 3 x 3 pixels."""
    return F.avg_pool2d(torch.from_numpy(images)[:, None], 3, 1, 1)[:, 0].numpy()


def auroc(inside: np.ndarray, outside: np.ndarray, n_bootstrap: int = N_BOOTSTRAP) -> dict[str, float]:
    rng = np.random.default_rng(0)
    y = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    drawn = []
    for _ in range(n_bootstrap):
        a, b = rng.choice(inside, len(inside)), rng.choice(outside, len(outside))
        drawn.append(roc_auc_score(y, np.r_[a, b]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "value": significant(float(roc_auc_score(y, np.r_[inside, outside]))),
        "low": significant(float(low)),
        "high": significant(float(high)),
    }
