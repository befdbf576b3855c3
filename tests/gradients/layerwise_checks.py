"""What the tests of the layerwise engine share."""

from sknfk.gradients import (
    LayerwiseEngine,
    LogDensityModel,
    LoopEngine,
    ParameterSpace,
)

from .layer_cases import WAVE

# Gradients in float64 against plain autograd in float64: rounding alone.
AUTOGRAD_RTOL = 1e-12
# In float32: some hundred eps, by cancellation and sums in another order.
FLOAT32_RTOL = 1e-5


def seen(model, density=WAVE, parameters=None):
    return LogDensityModel(model, density, ParameterSpace.of(model, parameters))


def assert_same(found, expected, rtol=AUTOGRAD_RTOL):
    assert found.shape == expected.shape
    assert float((found - expected).norm()) <= rtol * float(expected.norm())


def assert_serves_all(model, x, rtol=AUTOGRAD_RTOL, density=WAVE):
    """Every parameter by a rule, and the gradients those of plain autograd, one example at a time."""
    engine = LayerwiseEngine(seen(model, density))
    assert_same(engine(x).rows(), LoopEngine(seen(model, density))(x).rows(), rtol)
    assert engine.unserved(x) == ()
