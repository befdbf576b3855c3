"""Each family's density on its published weights: its value against the published figure, its gradients against
plain autograd in float64, what a fit of rank 128 explains, and what it takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.func import functional_call

from sknfk import NFKTransformer

from .cases import AnyPrecisionPixelCNN
from .features import RANKS, fitted, weights_digest
from .measuring import significant
from .pairs import N_BASE, SLOW, TRAINED, Pair

TAKES = ("cases",)
N_VALUES = 1_000  # test rows that values are means over
N_GRADIENTS = 3
PIXELS = 784

# What zoo/models.py states: for each data set the figure, and how far rounding lets it stray.
UNITS = {"vae": "nats", "flow": "bits/dim", "pixelcnn": "bits/dim"}
FIGURES: dict[str, dict[str, tuple[float, float]]] = {
    "vae": {"mnist": (-102, 3), "fashion": (-921, 30)},
    "flow": {"mnist": (1.06, 0.02), "fashion": (4.87, 0.1)},
    "pixelcnn": {"mnist": (0.8065, 0.02), "fashion": (4.38, 0.1)},
    "energy": {"mnist": (0.0, 0.05), "fashion": (-2.8, 0.3)},
    "dcgan": {"mnist": (-0.8, 0.3)},
    "mlp_gan": {"mnist": (1.1, 0.3)},
}
# Test rows of which a figure was found to be the mean, where they are fewer.
FIGURE_ROWS = {("flow", "fashion"): 32, ("pixelcnn", "fashion"): 64}


def rows(device: str, smoke: bool, cases: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        yield "figures", {"bits/dim of log 256 nats a pixel": in_unit(-PIXELS * math.log(256), "bits/dim")}
        return
    for name, trained in TRAINED.items():
        if cases and name not in cases:
            continue
        n_base, _ = SLOW.get(name, (N_BASE, 0))
        yield name, row(Pair(trained, "mnist", n_base, N_VALUES))


def is_complete(rows: dict[str, dict]) -> bool:
    """Say whether every model is there."""
    return TRAINED.keys() <= rows.keys()


def row(pair: Pair) -> dict[str, Any]:
    X = pair.rows("train")[0]
    nfk, seconds = fitted(pair)
    shares = np.cumsum(nfk.explained_variance_ratio_)
    return {
        "family": pair.model.family,
        "weights": pair.model.weights,
        "weights_sha256": weights_digest(pair),
        "density": repr(nfk.density_),
        "n_examples": len(X),
        "n_parameters": nfk.n_parameters_,
        "values": {dataset: value(nfk, pair, dataset) for dataset in ("mnist", "fashion", "usps")},
        "gradient_error": significant(gradient_error(pair, X[:N_GRADIENTS])),
        "explained_variance": {str(rank): significant(float(shares[rank - 1])) for rank in RANKS},
        "error_estimate": significant(nfk.error_estimate_),
        "n_sweeps": nfk.n_sweeps_,
        "dead_fraction": significant(nfk.dead_fraction_),
        "mean_shift": significant(nfk.mean_shift_),
        "fit_seconds": significant(seconds),
    }


def value(nfk: NFKTransformer, pair: Pair, dataset: str) -> dict[str, Any]:
    """Mean log-density of test rows, in the unit of the published figure, and that figure."""
    X = Pair(pair.model, dataset, n_test=N_VALUES).rows("test")[0]
    unit = UNITS.get(pair.model.name, "output")
    figure, tolerance = FIGURES.get(pair.model.name, {}).get(dataset, (None, 0.0))
    log_density, n_first = nfk.log_density(X), FIGURE_ROWS.get((pair.model.name, dataset), len(X))
    found, first = (in_unit(float(log_density[:n].mean()), unit) for n in (len(X), n_first))
    agrees = None if figure is None else abs(first - figure) <= tolerance
    about = {
        "figure": figure,
        "agrees": agrees,
        "n_rows": len(X),
        "mean_of_first": significant(first),
        "n_first": n_first,
    }
    return {"mean": significant(found), "unit": unit, **about}


def in_unit(log_density: float, unit: str) -> float:
    return -log_density / (PIXELS * math.log(2)) if unit == "bits/dim" else log_density


def gradient_error(pair: Pair, X: np.ndarray) -> float:
    """Relative distance, in float64, of the engine's gradients from plain autograd's of the same density."""
    model = pair.model.build()
    if pair.model.name == "pixelcnn":
        model = AnyPrecisionPixelCNN(model)  # it casts to float32 otherwise
    options = {"fisher": "identity", "center": False, "dtype": "float64", "n_components": 1, "random_state": 0}
    nfk = NFKTransformer(model, density=pair.model.density(), **{**pair.model.options, **options}).fit(X)
    found = torch.as_tensor(nfk.fisher_vectors(X))
    module, density = nfk.module_, nfk.density_
    values = {name: p.detach().clone().requires_grad_() for name, p in module.named_parameters()}

    class Seen(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = module

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return density.log_density(self.model, x)

    expected = []
    for example in torch.from_numpy(X).double().split(1):
        log_density = functional_call(Seen(), {f"model.{name}": p for name, p in values.items()}, (example,)).sum()
        selected = [values[name] for name in nfk.parameter_names_]
        expected.append(torch.cat([g.flatten() for g in torch.autograd.grad(log_density, selected)]))
    return float((found - torch.stack(expected)).norm() / torch.stack(expected).norm())
