"""The layerwise engine on real trained models: every parameter by a rule."""

import pytest
import torch

from sknfk.densities import CallableDensity, Classifier, LogProb
from sknfk.gradients import LayerwiseEngine, LogDensityModel, LoopEngine, ParameterSpace, select_engine

from ..zoo_data import requires_zoo
from .layer_cases import gaussian

pytestmark = requires_zoo

# Deep networks in float64, sums in another order.
AUTOGRAD_RTOL = 1e-11
# Models that compute in float32 whatever their weights are.
FLOAT32_RTOL = 1e-5

OUTPUT = CallableDensity(lambda model, x: model(x).flatten())


def bytes_of(n_rows):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n_rows, 1, 28, 28), generator=generator).float()


def flow_log_prob(model, x):
    noise = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    return model(x, noise.expand(len(x), -1, -1, -1))


def elbo(model, x):
    """One latent draw for all rows: a bound on log p(x)."""
    mean, log_variance = model.encode(x)
    z = mean + torch.exp(0.5 * log_variance) * gaussian(1, mean.shape[1], seed=2).to(mean)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    logits = model.decode(z).flatten(1)
    return -torch.nn.functional.softplus(logits).sum(1) + (logits * x.flatten(1)).sum(1) - divergence


# name of the zoo's factory -> (density, rows, dtype)
ZOO = {
    "mnist_lenet5": (Classifier(), lambda: gaussian(3, 1, 32, 32), torch.float64),
    "cifar10_resnet": (Classifier(), lambda: gaussian(3, 3, 32, 32), torch.float64),
    "fashion_mlp": (Classifier(), lambda: gaussian(3, 784), torch.float64),
    "mnist_dcgan_discriminator": (OUTPUT, lambda: gaussian(3, 1, 28, 28), torch.float64),
    "mnist_energy": (OUTPUT, lambda: gaussian(3, 1, 28, 28), torch.float64),
    "mnist_vae": (CallableDensity(elbo), lambda: torch.sigmoid(gaussian(3, 784)), torch.float64),
    "mnist_pixelcnn": (LogProb(), lambda: bytes_of(2), torch.float32),
    "mnist_flow": (CallableDensity(flow_log_prob), lambda: bytes_of(2), torch.float32),
}


def real(name):
    from zoo import models

    density, rows, dtype = ZOO[name]
    model = getattr(models, name)().to(dtype).eval().requires_grad_(True)
    return LogDensityModel(model, density, ParameterSpace.of(model)), rows().to(dtype)


@pytest.mark.parametrize("name", ZOO)
def test_rules_serve_every_parameter_and_gradients_are_those_of_plain_autograd(name):
    model, x = real(name)
    engine = LayerwiseEngine(model)
    found, expected = engine(x).rows(), LoopEngine(model)(x).rows()
    assert engine.unserved(x) == ()
    rtol = AUTOGRAD_RTOL if x.dtype == torch.float64 else FLOAT32_RTOL
    assert float((found - expected).norm()) <= rtol * float(expected.norm())


@pytest.mark.parametrize("name", ZOO)
def test_auto_takes_layerwise(name):
    model, x = real(name)
    assert select_engine("auto", model, x[:2])[0].name == "layerwise"
