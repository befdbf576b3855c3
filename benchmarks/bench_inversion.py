"""Figure 4: from images back to latent variables by linear least squares, made of Pipeline and Ridge alone.

A row is one seed and one dimension of the features. Fitted on G(h): R^2 of h on other G(h) from the embedding, from
principal components of pixels and of the discriminator's activations, and from all its activations. Then real test
images go to h and through G: squared pixel error, in [-1, 1], and the share whose label a classifier still reads.
"PCA decoding" has no model: an image's principal components, fitted on G(h), back to pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from sknfk import NFKTransformer
from sknfk.densities import Discriminator

from . import ours
from .measuring import significant, timed
from .pairs import TRAINED, before_the_last, images_of

TAKES = ("components", "done")
DIMENSIONS = (64, 128)  # latent variables have 64
SEEDS = (0, 1, 2)
ALPHAS = tuple(10.0**power for power in range(-3, 6))


@dataclass(frozen=True)
class Gan:
    """Discriminator and generator of flat images in [-1, 1], a classifier of them, and real images with labels."""

    discriminator: nn.Module
    generator: nn.Module
    classify: nn.Module
    X: np.ndarray  # (M, pixels)
    y: np.ndarray  # (M,)


def rows(
    device: str, smoke: bool, components: tuple[int, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        yield "tiny/3/0", inversion(tiny(), 3, 0, 40, 20, device)
        return
    for seed in SEEDS:
        for d in components or DIMENSIONS:
            if f"mlp_gan/{d}/{seed}" not in done:
                yield f"mlp_gan/{d}/{seed}", inversion(mlp_gan(), d, seed, 10_000, 2_000, device)


def is_complete(rows: dict[str, dict]) -> bool:
    return {f"mlp_gan/{d}/{seed}" for d in DIMENSIONS for seed in SEEDS} <= rows.keys()


def mlp_gan(n_images: int = 5_000) -> Gan:
    lenet5 = TRAINED["lenet5"]

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = lenet5.build()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.model(lenet5.read((x.reshape(-1, 28, 28) + 1) / 2))

    images, labels = images_of("mnist", "test")
    generator = TRAINED["mlp_gan"].density().generator
    X = 2 * images[:n_images].reshape(n_images, -1) - 1
    return Gan(TRAINED["mlp_gan"].build(), generator, Reader(), X, labels[:n_images])


def tiny() -> Gan:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        discriminator = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 1))
        generator, classify = nn.Sequential(nn.Linear(4, 8), nn.Tanh()), nn.Linear(8, 3)
        return Gan(discriminator, generator, classify, torch.randn(10, 8).numpy(), np.arange(10) % 3)


def inversion(gan: Gan, d: int, seed: int, n_train: int, n_test: int, device: str) -> dict[str, Any]:
    h, h_test = latent_variables(gan, seed, n_train, n_test)
    G, G_test = (applied(gan.generator, own) for own in (h, h_test))
    found: dict[str, Any] = {"latent": {}, "real": {}, "shown": shown(gan.y), "h_of_shown": {}}
    for name, pipeline in pipelines(gan, d, seed, device).items():
        with ours.quiet():
            seconds, _ = timed(lambda pipeline=pipeline: pipeline.fit(G, h), torch.device("cpu"))
        found["latent"][name] = {
            "r2": significant(r2_score(h_test, pipeline.predict(G_test))),
            "alpha": float(pipeline[-1].alpha_),
            "seconds": significant(seconds),
        }
        h_real = pipeline.predict(gan.X)
        found["real"][f"{name} to G"] = judged(gan, applied(gan.generator, h_real))
        found["h_of_shown"][name] = h_real[found["shown"]].round(4).tolist()
    found["real"]["PCA decoding"] = judged(gan, decoded(G, gan.X, d, seed))
    found["real"]["the images themselves"] = judged(gan, gan.X)
    sizes = {"n_latent": h.shape[1], "n_train": n_train, "n_test": n_test, "n_real": len(gan.X)}
    return {"d": d, "seed": seed, **sizes, **found}


def decoded(G: np.ndarray, X: np.ndarray, d: int, seed: int) -> np.ndarray:
    pca = PCA(min(d, G.shape[1]), random_state=seed).fit(G)
    return pca.inverse_transform(pca.transform(X))


def shown(y: np.ndarray) -> list[int]:
    """The first image of each label."""
    return [int(np.flatnonzero(y == label)[0]) for label in np.unique(y)]


def pictures(gan: Gan, row: dict[str, Any]) -> dict[str, np.ndarray]:
    """Real images, and what they become in each way, (n_labels, pixels): made again from what a row has of h."""
    X = gan.X[row["shown"]]
    through = {f"{name} to G": applied(gan.generator, np.array(h)) for name, h in row["h_of_shown"].items()}
    h = latent_variables(gan, row["seed"], row["n_train"], row["n_test"])[0]
    own = {"PCA decoding": decoded(applied(gan.generator, h), X, row["d"], row["seed"])}
    return {"the images": X, **through, **own}


def latent_variables(gan: Gan, seed: int, n_train: int, n_test: int) -> list[np.ndarray]:
    n_latent = gan.generator[0].in_features
    h = np.random.default_rng(seed).standard_normal((n_train + n_test, n_latent), dtype=np.float32)
    return np.split(h, [n_train])


def pipelines(gan: Gan, d: int, seed: int, device: str) -> dict[str, Pipeline]:
    activations = FunctionTransformer(applied_before_the_last, kw_args={"model": gan.discriminator})
    nfk = NFKTransformer(gan.discriminator, d, density=Discriminator(gan.generator), device=device, random_state=seed)
    pca = PCA(d, random_state=seed)
    return {
        f"NFK-{d}": from_features(nfk),
        f"PCA-{d} of pixels": from_features(pca),
        f"PCA-{d} of activations": from_features(activations, pca),
        "all activations": from_features(activations),
    }


def from_features(*steps: BaseEstimator) -> Pipeline:
    return make_pipeline(*steps, StandardScaler(), RidgeCV(ALPHAS))


def applied_before_the_last(X: np.ndarray, model: nn.Sequential) -> np.ndarray:
    with torch.no_grad():
        return before_the_last(model, torch.as_tensor(X, dtype=torch.float32)).numpy()


def applied(model: nn.Module, X: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.as_tensor(np.asarray(X, np.float32))).numpy()


def judged(gan: Gan, X: np.ndarray) -> dict[str, float]:
    """Squared pixel error against the real images, and the share that is still read as their label."""
    error = float(np.square(X - gan.X).mean())
    return {
        "pixel_error": significant(error),
        "label_agreement": significant(float((applied(gan.classify, X).argmax(1) == gan.y).mean())),
    }
