"""What a choice is worth on published weights: noise shared or fresh, statistics of data or model, which density.

A row is one answer to a question: the spectrum, the probe's accuracy on the embedding alone, and the agreement (linear
CKA on the test rows) of two embeddings with another seed each, which draws other noise, samples or projections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sknfk.densities import Embedding, Variational

from .bench_families import N_DRAWS, PER_CLASS, labelled_rows
from .features import RANKS, Features, transformer, weights_digest
from .measuring import significant, summary
from .pairs import PAIRS, Pair
from .probes import probe

TAKES = ("cases",)
SEEDS = (0, 1)
PIXELS = 784
N_NOISE = 16
LATENT = 20
DECODER = ["fc3.*", "fc4.*"]  # of the zoo's autoencoder

Rows = Callable[[np.ndarray, int], np.ndarray]


def as_they_are(X: np.ndarray, seed: int) -> np.ndarray:
    return X


def with_fresh_noise(X: np.ndarray, seed: int) -> np.ndarray:
    """Rows with noise of their own behind the pixels: antithetic pairs, as many as the shared bank has."""
    half = np.random.default_rng(seed).standard_normal((len(X), N_NOISE // 2, LATENT), dtype=np.float32)
    return np.hstack([X, np.concatenate([half, -half], axis=1).reshape(len(X), -1)])


def bound_with_fresh_noise(model: nn.Module, rows: Tensor) -> Tensor:
    """The evidence lower bound of ``with_fresh_noise``'s rows. The library refuses noise that is not shared."""
    x, noise = rows[:, :PIXELS], rows[:, PIXELS:].reshape(len(rows), N_NOISE, LATENT)
    mean, log_variance = model.encode(x)
    h = mean[:, None] + torch.exp(0.5 * log_variance)[:, None] * noise  # (B, S, latent)
    logits = model.decode(h.flatten(0, 1)).reshape(len(x), N_NOISE, PIXELS)
    log_likelihood = (logits * x[:, None] - F.softplus(logits)).sum(2).mean(1)
    return log_likelihood - 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


class Backbone(nn.Module):
    """A published classifier without its head."""

    def __init__(self, pair: Pair) -> None:
        super().__init__()
        self.model = pair.model.build()
        self.activations = pair.model.activations

    def forward(self, x: Tensor) -> Tensor:
        return self.activations(self.model, x).flatten(1)


@dataclass(frozen=True)
class Answer:
    """One way to fit a pair; ``read`` takes the rows and a seed."""

    pair: str
    density: Callable[[], Any] | None = None  # None: the pair's own
    headless: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    read: Rows = as_they_are


ANSWERS = {
    "noise/shared": Answer("vae/mnist"),
    "noise/fresh": Answer(
        "vae/mnist",
        lambda: Variational(elbo=bound_with_fresh_noise),
        options={"parameters": DECODER},
        read=with_fresh_noise,
    ),
    "parameters/decoder": Answer("vae/mnist"),
    "parameters/encoder": Answer("vae/mnist", options={"parameters": "encoder"}),
    "parameters/all": Answer("vae/mnist", options={"parameters": None}),
    **{
        f"statistics of {name}/{answer}": Answer(f"{name}/mnist", options={"statistics": answer})
        for name in ("mlp_gan", "vae")
        for answer in ("data", "model")
    },
    **{
        f"density of {pair}/{answer}": Answer(pair, density, headless=density is not None)
        for pair in ("lenet5/usps", "lenet5/fashion", "resnet20/usps")
        for answer, density in (
            ("logsumexp", None),
            ("embedding", Embedding),
            ("embedding projected to 32", lambda: Embedding(32)),
        )
    },
}


def rows(device: str, smoke: bool, cases: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        rng = np.random.default_rng(0)
        A, B = rng.normal(size=(9, 2)), rng.normal(size=(9, 2))
        yield "noise/noise", {"agreement": significant(linear_cka(A, B))}
        return
    for key, answer in ANSWERS.items():
        if not cases or key.split("/")[0] in cases or answer.pair in cases:
            yield key, row(answer)


def row(answer: Answer) -> dict[str, Any]:
    pair = PAIRS[answer.pair]
    fits = [fitted(answer, pair, seed) for seed in SEEDS]
    features, nfk = fits[0]
    shares = np.cumsum(nfk.explained_variance_ratio_)
    return {
        "pair": answer.pair,
        "weights_sha256": weights_digest(pair),
        "density": repr(nfk.density_),
        "n_base": len(features.y_base),
        "n_test": len(features.y_test),
        "n_draws": N_DRAWS,
        "explained_variance": {str(rank): significant(float(shares[rank - 1])) for rank in RANKS},
        "mean_shift": significant(nfk.mean_shift_),
        "dead_fraction": significant(nfk.dead_fraction_),
        "agreement": significant(linear_cka(*(own.test["NFK-128"] for own, _ in fits))),
        "accuracy": {str(per_class): accuracies(features, per_class) for per_class in PER_CLASS},
    }


def fitted(answer: Answer, pair: Pair, seed: int) -> tuple[Features, Any]:
    (X, _, y), (X_test, _, y_test) = pair.rows("train"), pair.rows("test")
    options = {**answer.options, "random_state": seed}
    if answer.density is not None:
        options["density"] = answer.density()
    if answer.headless:
        options["model"] = Backbone(pair)
    nfk = transformer(pair, **options).fit(answer.read(X, seed))
    embedded = nfk.transform(answer.read(X, seed)), nfk.transform(answer.read(X_test, seed + len(SEEDS)))
    return Features({"NFK-128": embedded[0]}, {"NFK-128": embedded[1]}, y, y_test, {}), nfk


def accuracies(features: Features, per_class: int) -> dict[str, Any]:
    draws = range(N_DRAWS)
    found = [
        probe(features, "NFK-128", labelled_rows(features.y_base, str(per_class), draw), draw).accuracy
        for draw in draws
    ]
    return summary(found)


def linear_cka(A: np.ndarray, B: np.ndarray) -> float:
    """Likeness of the linear kernels of two embeddings of the same rows, 0 to 1."""
    A, B = A.astype(np.float64), B.astype(np.float64)
    A, B = A - A.mean(0), B - B.mean(0)
    return float(np.square(A.T @ B).sum() / (np.linalg.norm(A.T @ A) * np.linalg.norm(B.T @ B)))
