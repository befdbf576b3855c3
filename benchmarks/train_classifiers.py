"""Train the classifiers: an MLP and LeNet-5 on odd or even digits, WRN-40-2 and WRN-16-1 on CIFAR-10.

    python -m benchmarks.train_classifiers wrn40_2 --device cuda

CIFAR-10: 40,000 training images; the other 10,000 are for selection. Momentum 0.9, rate 0.1, a tenth of it from 60 % of
the steps and again from 80 %, as 150 and 200 of 250 epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .networks import binary_lenet5, binary_mlp, wide_resnet
from .trained import step as update
from .training import Modules, Optimisers, Recipe, cropped_and_flipped, main, noise_images
from .training_data import N_SELECTION, cifar10_tensors, mnist_tensors, normal, unit

EPOCHS = 250


def binary_step(modules: Modules, optimisers: Optimisers, x: Tensor, y: Tensor, generator: torch.Generator) -> None:
    logits = modules["model"](unit(x)).flatten()
    update(optimisers["model"], F.binary_cross_entropy_with_logits(logits, (y % 2).float()))


def step(modules: Modules, optimisers: Optimisers, x: Tensor, y: Tensor, generator: torch.Generator) -> None:
    logits = modules["model"](cropped_and_flipped(normal(x), generator))
    update(optimisers["model"], F.cross_entropy(logits, y))


def adam(modules: Modules) -> Optimisers:
    return {"model": torch.optim.Adam(modules["model"].parameters(), lr=1e-3)}


def momentum(modules: Modules) -> Optimisers:
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
    return {"model": torch.optim.SGD(modules["model"].parameters(), **options)}


def tenths(share: float) -> float:
    return 0.1 ** ((share >= 0.6) + (share >= 0.8))


def binary_quality(modules: Modules) -> dict[str, float]:
    X, y = mnist_tensors("test")
    return {"test_accuracy": accuracy(lambda x: modules["model"](unit(x)).flatten() > 0, X, y % 2)}


def quality(modules: Modules) -> dict[str, float]:
    model = lambda x: modules["model"](normal(x)).argmax(1)  # noqa: E731
    X, y = cifar10_tensors("train")
    return {
        "selection_accuracy": accuracy(model, X[-N_SELECTION:], y[-N_SELECTION:]),
        "test_accuracy": accuracy(model, *cifar10_tensors("test")),
    }


def accuracy(predict: Callable[[Tensor], Tensor], X: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        predicted = torch.cat([predict(x) for x in X.split(500)])
    return float((predicted == y).double().mean())


def for_training() -> tuple[Tensor, Tensor]:
    X, y = cifar10_tensors("train")
    return X[:-N_SELECTION], y[:-N_SELECTION]


def modules_of(build: Callable[[], nn.Module]) -> Modules:
    return Modules({"model": build()})


def binary(name: str, build: Callable[[], nn.Module]) -> Recipe:
    data, smoke = partial(mnist_tensors, "train"), noise_images(1, 28, 28)
    # Five epochs of 60,000 images.
    return Recipe(name, 2_340, 128, partial(modules_of, build), adam, binary_step, data, smoke, binary_quality)


def wide(name: str, depth: int, width: int) -> Recipe:
    build = partial(modules_of, partial(wide_resnet, depth, width))
    n_steps = EPOCHS * (40_000 // 128)
    smoke = noise_images(3, 32, 32)
    return Recipe(name, n_steps, 128, build, momentum, step, for_training, smoke, quality, tenths)


MLP, LENET5 = binary("binary_mlp", binary_mlp), binary("binary_lenet5", binary_lenet5)
WRN_40_2, WRN_16_1 = wide("wrn40_2", 40, 2), wide("wrn16_1", 16, 1)
RECIPES = (MLP, LENET5, WRN_40_2, WRN_16_1)

if __name__ == "__main__":
    main(RECIPES)
