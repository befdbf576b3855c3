"""BackPACK's per-example gradients against the layerwise engine's."""

import pytest
import torch
from torch import nn

from sknfk.densities import Classifier
from sknfk.gradients import LayerwiseEngine, LogDensityModel, ParameterSpace

from ..cases import seeded
from .layer_cases import gaussian, shaken

# Both in float64; two programs, two orders of summation.
ORACLE_RTOL = 1e-12


def network():
    """Every kind of layer that both know; images of 3 x 9 x 9."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 2, groups=2, dilation=2),
        nn.Sigmoid(),
        nn.ConvTranspose2d(4, 3, 3, stride=2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(147, 8),
        nn.Tanh(),
        nn.Linear(8, 5),
    )


def test_gradients_are_those_of_backpack():
    backpack = pytest.importorskip("backpack", reason="BackPACK 1.7.1 is the oracle of per-example gradients")
    extensions = pytest.importorskip("backpack.extensions", reason="BackPACK 1.7.1")
    model, extended = (seeded(lambda: shaken(network())) for _ in range(2))
    x = gaussian(7, 3, 9, 9)
    backpack.extend(extended)
    # A sum over rows: for a mean, BackPACK's gradients would be those of f / N.
    with backpack.backpack(extensions.BatchGrad()):
        torch.logsumexp(extended(x.clone().requires_grad_()), dim=1).sum().backward()
    expected = torch.cat([p.grad_batch.flatten(1) for p in extended.parameters()], dim=1)
    engine = LayerwiseEngine(LogDensityModel(model, Classifier(), ParameterSpace.of(model)))
    found = engine(x).rows()
    assert engine.unserved(x) == ()
    assert float((found - expected).norm()) <= ORACLE_RTOL * float(expected.norm())
