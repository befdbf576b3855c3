"""The layerwise engine on real trained models: every parameter by a rule."""

import pytest
import torch

from sknfk.densities import Classifier, Discriminator, LogProb, Output, Variational
from sknfk.gradients import LayerwiseEngine, LogDensityModel, LoopEngine, ParameterSpace, select_engine

from ..zoo_data import requires_zoo
from .layer_cases import gaussian

pytestmark = requires_zoo

# Deep networks in float64, sums in another order.
AUTOGRAD_RTOL = 1e-11
# Models that compute in float32 whatever their weights are.
FLOAT32_RTOL = 1e-5


def bytes_of(n_rows):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n_rows, 1, 28, 28), generator=generator).float()


# name of the zoo's factory -> (density, rows, dtype)
ZOO = {
    "mnist_lenet5": (Classifier(), lambda: gaussian(3, 1, 32, 32), torch.float64),
    "cifar10_resnet": (Classifier(), lambda: gaussian(3, 3, 32, 32), torch.float64),
    "fashion_mlp": (Classifier(), lambda: gaussian(3, 784), torch.float64),
    "mnist_dcgan_discriminator": (Discriminator(), lambda: gaussian(3, 1, 28, 28), torch.float64),
    "mnist_energy": (Output(), lambda: gaussian(3, 1, 28, 28), torch.float64),
    "mnist_vae": (Variational(), lambda: torch.sigmoid(gaussian(3, 784)), torch.float64),
    "mnist_pixelcnn": (LogProb(), lambda: bytes_of(2), torch.float32),
    "mnist_flow": (LogProb(dequantize="pass"), lambda: bytes_of(2), torch.float32),
}


def real(name):
    from zoo import models

    density, rows, dtype = ZOO[name]
    model, x = getattr(models, name)().to(dtype).eval().requires_grad_(True), rows().to(dtype)
    density = density.prepared(model, x, torch.Generator().manual_seed(0))
    return LogDensityModel(model, density, ParameterSpace.of(model)), x


@pytest.mark.parametrize("bound", ["elbo", "importance"])
def test_rules_serve_both_bounds_of_the_autoencoder(bound):
    from zoo import models

    model, x = models.mnist_vae().double().requires_grad_(True), torch.sigmoid(gaussian(3, 784))
    density = Variational(bound=bound).prepared(model, x, torch.Generator().manual_seed(0))
    seen = LogDensityModel(model, density, ParameterSpace.of(model))
    engine = LayerwiseEngine(seen)
    found, expected = engine(x).rows(), LoopEngine(seen)(x).rows()
    assert engine.unserved(x) == ()
    assert float((found - expected).norm()) <= AUTOGRAD_RTOL * float(expected.norm())


def test_the_mlp_gan_is_served_with_its_generators_samples():
    from zoo import models

    discriminator, generator = (part.double() for part in models.mnist_mlp_gan())
    density = Discriminator(generator).prepared(discriminator, gaussian(2, 784), torch.Generator().manual_seed(0))
    samples = density.sample(discriminator, 256, torch.Generator().manual_seed(0))
    assert samples.shape == (256, 784) and float(samples.abs().max()) <= 1
    assert float(density.log_density(discriminator, samples).detach().mean()) == pytest.approx(-1.2, abs=0.3)
    seen = LogDensityModel(discriminator.requires_grad_(True), density, ParameterSpace.of(discriminator))
    engine = LayerwiseEngine(seen)
    found, expected = engine(samples[:3]).rows(), LoopEngine(seen)(samples[:3]).rows()
    assert engine.unserved(samples[:3]) == ()
    assert float((found - expected).norm()) <= AUTOGRAD_RTOL * float(expected.norm())


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
