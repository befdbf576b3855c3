"""Train the GANs: a small one on MNIST, and one with spectral norm on CIFAR-10.

    python -m benchmarks.train_gans sngan --device cuda

Both see all training images and no labels. Adam; the small one with the logistic loss, the other with the hinge loss,
a rate of 4e-4 for the discriminator and 2e-4 for the generator, and one step of each in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .networks import LATENT, SMALL_LATENT, small_discriminator, small_generator, sn_discriminator, sn_generator
from .trained import step as update
from .training import Modules, Optimisers, Recipe, main, noise_images
from .training_data import cifar10_tensors, mnist_tensors, signed

Loss = Callable[[Tensor], Tensor]  # of logits; the discriminator wants them large on images and small on samples


def adversarial_step(
    latent: int,
    loss: Loss,
    of_generator: Loss,
    modules: Modules,
    optimisers: Optimisers,
    x: Tensor,
    y: Tensor,
    rng: torch.Generator,
) -> None:
    D, G = modules["discriminator"], modules["generator"]
    fake = G(torch.randn(len(x), latent, generator=rng).to(x.device))
    update(optimisers["discriminator"], loss(D(signed(x))).mean() + loss(-D(fake.detach())).mean())
    update(optimisers["generator"], of_generator(D(fake)).mean())


def optimisers(rates: tuple[float, float], betas: tuple[float, float], modules: Modules) -> Optimisers:
    names = ("discriminator", "generator")
    return {
        name: torch.optim.Adam(modules[name].parameters(), lr=rate, betas=betas)
        for name, rate in zip(names, rates, strict=True)
    }


def logits(latent: int, images: Callable[[str], tuple[Tensor, Tensor]], modules: Modules) -> dict[str, float]:
    """Mean logits of test images and of as many samples."""
    X = images("test")[0][:1_000]
    h = torch.randn(len(X), latent, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rows = {"real": signed(X), "fake": modules["generator"](h)}
        return {f"logit_{name}": float(modules["discriminator"](x).mean()) for name, x in rows.items()}


def small() -> Modules:
    return Modules({"discriminator": small_discriminator(), "generator": small_generator()})


def spectral() -> Modules:
    return Modules({"discriminator": sn_discriminator(), "generator": sn_generator()})


def logistic(z: Tensor) -> Tensor:
    return F.softplus(-z)


def hinge(z: Tensor) -> Tensor:
    return F.relu(1 - z)


SMALL_DCGAN = Recipe(
    "small_dcgan",
    20 * 468,  # epochs of 60,000 images
    128,
    small,
    partial(optimisers, (2e-4, 2e-4), (0.5, 0.999)),
    partial(adversarial_step, SMALL_LATENT, logistic, logistic),
    partial(mnist_tensors, "train"),
    noise_images(1, 28, 28),
    partial(logits, SMALL_LATENT, mnist_tensors),
)
SNGAN = Recipe(
    "sngan",
    200_000,
    64,
    spectral,
    partial(optimisers, (4e-4, 2e-4), (0.0, 0.9)),
    partial(adversarial_step, LATENT, hinge, torch.neg),
    partial(cifar10_tensors, "train"),
    noise_images(3, 32, 32),
    partial(logits, LATENT, cifar10_tensors),
    lambda share: 1.0 - share,
)
RECIPES = (SMALL_DCGAN, SNGAN)

if __name__ == "__main__":
    main(RECIPES)
