"""The models that the benchmarks train on CIFAR-10, beside its images; only where their training has ended."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sknfk.densities import Discriminator, Variational

from . import training
from .networks import folded
from .pairs import PAIRS, Pair, Trained, vae_activations
from .train_gans import SNGAN
from .train_vae import CONV_VAE
from .training import Modules, Recipe

N_TEST = 1_017  # the test images at hand
N_DRAWS = 4  # of the VAE's noise: a gradient of it takes a second of one core for ten rows with the default's 16


def weights_of(recipe: Recipe) -> Modules:
    modules = training.finished(recipe)
    if modules is None:
        raise FileNotFoundError(f"`{recipe.name}` must be trained. Got no finished weights; see benchmarks/train_*.py.")
    return modules


def pooled(model: nn.Sequential, x: Tensor) -> Tensor:
    """The means over positions of what each residual block gives, (B, 4 * width)."""
    means = []
    for block in model[:4]:
        x = block(x)
        means.append(x.mean((2, 3)))
    return torch.cat(means, 1)


OWN = {
    "sngan/cifar10": (
        SNGAN,
        Trained(
            "sngan",
            "gan",
            SNGAN.path.name,
            lambda: folded(weights_of(SNGAN)["discriminator"]),
            lambda: Discriminator(weights_of(SNGAN)["generator"]),
            lambda x: 2 * x - 1,
            pooled,
            "all blocks, pooled",
        ),
    ),
    "conv_vae/cifar10": (
        CONV_VAE,
        Trained(
            "conv_vae",
            "vae",
            CONV_VAE.path.name,
            lambda: weights_of(CONV_VAE)["model"],
            lambda: Variational(likelihood="gaussian", n_draws=N_DRAWS),
            lambda x: x,
            vae_activations,
            "latent mean",
            {"parameters": "decoder"},
        ),
    ),
}


def is_trained(key: str) -> bool:
    """Say whether a pair's model has its weights."""
    return key not in OWN or training.finished(OWN[key][0]) is not None


def is_due(key: str, rows: Iterable[str]) -> bool:
    """Say whether a pair's rows must be there: its model is trained, here or where some of them were made."""
    return is_trained(key) or any(row.startswith(f"{key}/") for row in rows)


def pair_of(key: str) -> Pair | None:
    """Return a pair by its key, or None, and say so, where the model is not trained yet."""
    if key not in OWN:
        return PAIRS[key]
    if not is_trained(key):
        print(f"{key}: left out, its training has not ended; see benchmarks/train_*.py", flush=True)
        return None
    return Pair(OWN[key][1], "cifar10", n_test=N_TEST)
