"""What the tables of messages fit and evaluate."""

import torch

from sknfk import NFKTransformer
from sknfk.densities import Classifier
from sknfk.gradients import LogDensityModel, ParameterSpace

from ..cases import mlp, rows

X = torch.zeros(3, 5, dtype=torch.float64)


def nfk(model=None, **options):
    given = {"n_components": 3, "device": "cpu", "random_state": 0} | options
    return NFKTransformer(mlp() if model is None else model, **given)


def fit(model=None, X=None, y=None, **options):
    return nfk(model, **options).fit(rows(12) if X is None else X, y)


def rng():
    return torch.Generator().manual_seed(0)


def value(density, model, x=X):
    """Prepare a density and evaluate it."""
    return density.prepared(model, x, rng()).log_density(model, x)


def seen(model, density=None):
    return LogDensityModel(model, density or Classifier(), ParameterSpace.of(model))


def as_tensor(n_rows=3):
    return torch.from_numpy(rows(n_rows))
