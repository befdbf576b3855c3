"""Discriminators before their sigmoid, and samples of their generators."""

import pickle

import joblib
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sknfk import NFKTransformer
from sknfk.densities import Discriminator

from ..cases import seeded

RNG_SEED = 3


def rng(seed=RNG_SEED):
    return torch.Generator().manual_seed(seed)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


class WithSigmoid(nn.Module):
    """Gated layers, and a sigmoid at the end in one of the ways that people write it."""

    def __init__(self, ending):
        super().__init__()
        self.body = nn.Linear(5, 6)
        self.head = nn.Linear(6, 1)
        self.ending = ending

    def logit(self, x):
        h = self.body(x)
        return self.head(h * torch.sigmoid(h)) * 300

    def forward(self, x):
        return self.ending(self.logit(x))


ENDINGS = {
    "a module": nn.Sigmoid(),
    "torch.sigmoid": torch.sigmoid,
    "the method": lambda h: h.sigmoid(),
    "flattened after": lambda h: torch.sigmoid(h).view(-1),
    "of four axes": lambda h: torch.sigmoid(h[:, :, None, None]),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_discriminator_that_ends_in_a_sigmoid_is_read_at_its_logit(ending):
    model, x = seeded(lambda: WithSigmoid(ENDINGS[ending])), gaussian(4, 5)
    density = Discriminator().prepared(model, x, rng())
    expected = model.logit(x)[:, 0].detach()
    assert float(expected.abs().max()) > 20  # where log p - log(1 - p) has lost its digits
    torch.testing.assert_close(density.log_density(model, x), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("ending", [nn.Identity(), nn.Tanh(), lambda h: torch.sigmoid(h) * 0.5], ids=str)
def test_any_other_output_is_taken_as_it_is(ending):
    model, x = seeded(lambda: WithSigmoid(ending)), gaussian(4, 5)
    density = Discriminator().prepared(model, x, rng())
    torch.testing.assert_close(density.log_density(model, x), model(x)[:, 0], rtol=0, atol=0)


def generator():
    return seeded(
        lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 5))
    )


def prepared(**options):
    return Discriminator(**options).prepared(nn.Linear(5, 1).double(), gaussian(2, 5), rng())


def test_samples_are_the_generators_images_of_normal_latents_in_eval_mode():
    network = generator().train()
    density = prepared(generator=network)
    samples = density.sample(None, 300, rng())
    latents = torch.randn(300, 3, generator=rng(), dtype=torch.float64)
    torch.testing.assert_close(samples, network.eval()(latents))
    assert torch.equal(density.sample(None, 300, rng()), samples)
    assert not torch.equal(density.sample(None, 300, rng(4)), samples)


def test_the_callers_generator_keeps_its_mode_dtype_and_statistics():
    network = generator().float().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    prepared(generator=network).sample(None, 10, rng())
    assert network.training and network[0].weight.dtype == torch.float32
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_uniform_latents_lie_between_minus_one_and_one():
    network = nn.Sequential(nn.Linear(5, 5, bias=False)).double()
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(5))
    samples = prepared(generator=network, latent="uniform").sample(None, 2000, rng())
    assert -1 <= float(samples.min()) < -0.99 and 0.99 < float(samples.max()) < 1
    assert float(samples.mean()) == pytest.approx(0, abs=0.03)


def test_a_callable_draws_the_latents_from_the_generator_that_it_is_given():
    density = prepared(generator=generator(), latent=lambda n, rng: torch.ones(n, 3) * torch.rand(1, generator=rng))
    samples = density.sample(None, 4, rng())
    torch.testing.assert_close(samples, samples[:1].expand(4, 5))
    assert not torch.equal(samples, density.sample(None, 4, rng(4)))


@pytest.mark.parametrize(
    ("first", "shape"),
    [(nn.Linear(7, 2), (7,)), (nn.ConvTranspose2d(6, 2, 4), (6, 1, 1)), (nn.ConvTranspose1d(4, 2, 4), (4, 1))],
    ids=["linear", "transposed convolution", "of one axis"],
)
def test_the_shape_of_a_latent_variable_is_read_off_the_first_layer(first, shape):
    assert prepared(generator=nn.Sequential(first)).latent_dim == shape


def test_a_first_layer_that_does_not_tell_asks_for_latent_dim():
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 5)).eval()
    with pytest.raises(ValueError, match=r"`latent_dim` must be given.*Got None for Sequential"):
        prepared(generator=network)
    assert prepared(generator=network, latent_dim=3).sample(None, 2, rng()).shape == (2, 5)


def test_clones_share_the_generator_and_hashes_see_its_weights_alone():
    network, other = generator(), generator()
    nfk = NFKTransformer(nn.Linear(5, 1), density=Discriminator(network))
    assert clone(nfk).density.generator is network
    assert joblib.hash(Discriminator(network)) == joblib.hash(Discriminator(other.train()))
    with torch.no_grad():
        other[0].weight[0, 0] += 1
    assert joblib.hash(Discriminator(network)) != joblib.hash(Discriminator(other))


def test_a_pickle_samples_the_same():
    density = prepared(generator=generator())
    restored = pickle.loads(pickle.dumps(density))
    assert torch.equal(restored.sample(None, 5, rng()), density.sample(None, 5, rng()))
    assert "<" not in repr(Discriminator(generator())) and "Sequential(...)" in repr(density)
