"""Train a convolutional variational autoencoder on CIFAR-10, without labels.

python -m benchmarks.train_vae --device cuda
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from sknfk.densities import Variational

from .networks import ConvVAE
from .trained import step as update
from .training import Modules, Optimisers, Recipe, main, noise_images
from .training_data import cifar10_tensors, unit

EPOCHS = 30
BATCH = 128


def step(modules: Modules, optimisers: Optimisers, x: Tensor, y: Tensor, generator: torch.Generator) -> None:
    """Minus the bound with one draw for each row, over the number of pixels."""
    x = unit(x)
    mean, log_variance = modules["model"].encode(x)
    noise = torch.randn(mean.shape, generator=generator).to(x.device)
    pixels, log_scale = modules["model"].decode(mean + torch.exp(0.5 * log_variance) * noise)
    error = 0.5 * ((x - pixels).square() * torch.exp(-log_scale) + log_scale).flatten(1).sum(1)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    update(optimisers["model"], (error + divergence).mean() / x[0].numel())


def adam(modules: Modules) -> Optimisers:
    return {"model": torch.optim.Adam(modules["model"].parameters(), lr=1e-3)}


def quality(modules: Modules) -> dict[str, float]:
    """Mean bound on the test images, in nats, by the library's density."""
    x, generator = unit(cifar10_tensors("test")[0]), torch.Generator().manual_seed(0)
    density = Variational(likelihood="gaussian").prepared(modules["model"], x[:2], generator)
    with torch.no_grad():
        return {"elbo": float(torch.cat([density.log_density(modules["model"], rows) for rows in x.split(50)]).mean())}


CONV_VAE = Recipe(
    "conv_vae",
    EPOCHS * (50_000 // BATCH),
    BATCH,
    lambda: Modules({"model": ConvVAE()}),
    adam,
    step,
    partial(cifar10_tensors, "train"),
    noise_images(3, 32, 32),
    quality,
    lambda share: 1.0 - share,
)
RECIPES = (CONV_VAE,)

if __name__ == "__main__":
    main(RECIPES)
