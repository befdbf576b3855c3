"""Figures 2 and 5: how fast the spectrum falls, trained against untrained, with and without the Fisher information.

An MLP and LeNet-5 with one logit for odd or even digits, and a GAN whose discriminator has 17,000 parameters, with
statistics of its samples or of the data; the untrained ones have the weights that training began with. What is not
trained yet is trained first, in minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
from torch import Tensor, nn

from sknfk import NFKTransformer
from sknfk.densities import Discriminator

from . import ours, training
from .measuring import significant
from .train_classifiers import LENET5, MLP
from .train_gans import SMALL_DCGAN
from .training import Modules, Recipe
from .training_data import mnist_tensors, signed, unit

TAKES = ("cases", "done")
N_EXAMPLES, N_COMPONENTS = 10_000, 128
MODELS: dict[str, tuple[Recipe, Callable[[Tensor], Tensor], str]] = {
    "mlp": (MLP, unit, "auto"),
    "lenet5": (LENET5, unit, "auto"),
    "dcgan": (SMALL_DCGAN, signed, "model"),
    "dcgan, statistics of data": (SMALL_DCGAN, signed, "data"),
}
WAYS = tuple(product(("trained", "untrained"), ("diag", "identity")))  # diag or identity: with or without the Fisher


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, (recipe, read, statistics) in MODELS.items():
        for state, fisher in WAYS:
            key = f"{name}/{state}/{fisher}"
            if key in done or (cases and name not in cases):
                continue
            if smoke:  # no data, no training
                modules, X = training.initial(recipe).eval(), read(recipe.smoke_data()[0]).numpy()
                yield key, spectrum(modules, X, 3, device, fisher=fisher, statistics=statistics)
                continue
            modules = training.train(recipe, device) if state == "trained" else training.initial(recipe).eval()
            X = read(mnist_tensors("train")[0][:N_EXAMPLES]).numpy()
            about = training.reached(recipe) if state == "trained" else {}
            found = spectrum(modules, X, N_COMPONENTS, device, fisher=fisher, statistics=statistics)
            yield key, {"reached": about, **found}


def is_complete(rows: dict[str, dict]) -> bool:
    return {f"{name}/{state}/{fisher}" for name in MODELS for state, fisher in WAYS} <= rows.keys()


def spectrum(modules: Modules, X: np.ndarray, n_components: int, device: str, **options: str) -> dict[str, Any]:
    model, density = meaning(modules)
    with ours.quiet():
        nfk = NFKTransformer(model, n_components, density=density, device=device, random_state=0, **options).fit(X)
    return {
        "n_examples": len(X),
        "n_components": n_components,
        "n_parameters": nfk.n_parameters_,
        "explained_variance": [significant(float(share), 6) for share in np.cumsum(nfk.explained_variance_ratio_)],
        "total_variance": significant(nfk.total_variance_),
        "dead_fraction": significant(nfk.dead_fraction_),
        "mean_shift": significant(float(nfk.mean_shift_)),
        **ours.plan(nfk),
    }


def meaning(modules: Modules) -> tuple[nn.Module, Any]:
    """Return the model and its density: a GAN's is about its own samples."""
    if "discriminator" in modules:
        return modules["discriminator"], Discriminator(modules["generator"])
    return modules["model"], "classifier"
