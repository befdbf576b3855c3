"""Variational bounds against a model whose log p(x) is known, and against torch.distributions."""

import math
import pickle

import pytest
import torch
from torch import distributions, nn
from torch.utils.checkpoint import checkpoint

from sknfk.densities import Variational

from ..cases import seeded
from ..zoo_data import requires_zoo

D, LATENT = 5, 2


def rng(seed=3):
    return torch.Generator().manual_seed(seed)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


class Probabilistic(nn.Module):
    """Probabilistic PCA: h ~ N(0, 1), x ~ N(W h + b, 1); the encoder is its exact posterior."""

    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.randn(D, LATENT))
        self.b = nn.Parameter(torch.randn(D))

    def precision(self):
        return torch.eye(LATENT).to(self.W) + self.W.T @ self.W

    def decode(self, h):
        return h @ self.W.T + self.b

    def log_prob(self, x):
        covariance = self.W @ self.W.T + torch.eye(D).to(self.W)
        return distributions.MultivariateNormal(self.b, covariance).log_prob(x)


def probabilistic():
    """With orthogonal columns, so that the posterior's covariance is diagonal."""
    model = seeded(Probabilistic)
    with torch.no_grad():
        model.W.copy_(torch.linalg.qr(model.W)[0] * torch.tensor([2.0, 0.5]))
    return model


def posterior(model, x):
    precision = model.precision()
    mean = torch.linalg.solve(precision, model.W.T @ (x - model.b).T).T
    return mean, -precision.diagonal().log().expand(len(x), -1)


def autoencoder(n_outputs=D):
    class Autoencoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.enc, self.dec = nn.Linear(D, 2 * LATENT), nn.Linear(LATENT, n_outputs)

        def encode(self, x):
            return self.enc(x).chunk(2, dim=1)

        def decode(self, h):
            return self.dec(h)

    return seeded(Autoencoder)


def value(density, model, x, seed=3):
    return density.prepared(model, x, rng(seed)).log_density(model, x)


def test_the_importance_bound_with_the_exact_posterior_is_log_p_of_x_for_any_noise():
    model, x = probabilistic(), gaussian(4, D)
    density = Variational(posterior, likelihood="gaussian", bound="importance", n_draws=4)
    for seed in range(3):
        torch.testing.assert_close(value(density, model, x, seed), model.log_prob(x))


def test_the_lower_bound_with_the_exact_posterior_and_noise_of_unit_covariance_is_log_p_of_x():
    model, x = probabilistic(), gaussian(4, D)
    noise = math.sqrt(LATENT) * torch.cat([torch.eye(LATENT), -torch.eye(LATENT)]).double()
    torch.testing.assert_close(
        value(Variational(posterior, likelihood="gaussian", noise=noise), model, x), model.log_prob(x)
    )


def test_the_lower_bound_of_many_draws_tends_to_log_p_of_x():
    model, x = probabilistic(), gaussian(4, D)
    found = value(Variational(posterior, likelihood="gaussian", n_draws=20_000), model, x)
    torch.testing.assert_close(found, model.log_prob(x), rtol=0, atol=0.1)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "gaussian of both"])
def test_the_lower_bound_is_that_of_torch_distributions(likelihood):
    both = likelihood == "gaussian of both"
    model, x = autoencoder(2 * D if both else D), torch.sigmoid(gaussian(3, D))
    decode = (lambda model, h: model.decode(h).chunk(2, dim=1)) if both else "decode"
    density = Variational(decode=decode, likelihood=likelihood.split()[0], n_draws=6).prepared(model, x, rng())
    expected = []
    for row in x:
        mean, log_variance = model.encode(row[None])
        posterior = distributions.Normal(mean, (0.5 * log_variance).exp())
        divergence = distributions.kl_divergence(posterior, distributions.Normal(0.0, 1.0)).sum()
        decoded = model.decode(mean + (0.5 * log_variance).exp() * density.noise)
        if likelihood == "bernoulli":  # of grey values too: x log p + (1 - x) log (1 - p)
            p = torch.sigmoid(decoded)
            log_likelihood = row * p.log() + (1 - row) * (1 - p).log()
        elif both:
            log_likelihood = distributions.Normal(decoded[:, :D], (0.5 * decoded[:, D:]).exp()).log_prob(row)
        else:
            log_likelihood = distributions.Normal(decoded, 1.0).log_prob(row)
        expected.append(log_likelihood.sum(1).mean() - divergence)
    torch.testing.assert_close(density.log_density(model, x), torch.stack(expected))


def test_the_importance_bound_is_no_smaller_than_the_lower_bound_of_the_same_noise_in_the_mean():
    model, x = autoencoder(), gaussian(50, D)
    noise = gaussian(64, LATENT)
    bounds = [Variational(likelihood="gaussian", bound=b, noise=noise) for b in ("elbo", "importance")]
    elbo, importance = (value(density, model, x).mean() for density in bounds)
    assert float(importance) > float(elbo) + 0.1


def test_a_callable_likelihood_takes_what_decode_gives_and_the_rows():
    model, x = autoencoder(), gaussian(3, D)
    density = Variational(likelihood=lambda mean, x: -(x - mean).abs().sum(1))
    assert density.sampling is None
    assert value(density, model, x).shape == (3,)
    with pytest.raises(ValueError, match=r"`likelihood` must return one scalar per row"):
        value(Variational(likelihood=lambda mean, x: x - mean), model, x)


def test_noise_is_one_bank_of_antithetic_pairs_for_all_rows():
    model, x = autoencoder(), gaussian(4, D)
    density = Variational().prepared(model, x, rng())
    assert density.noise.shape == (16, LATENT)
    assert torch.equal(density.noise[:8], -density.noise[8:])
    together = density.log_density(model, x)
    torch.testing.assert_close(together, torch.cat([density.log_density(model, row[None]) for row in x]))
    assert torch.equal(density.log_density(model, x), together)
    assert torch.equal(Variational().prepared(model, x, rng()).noise, density.noise)
    assert not torch.equal(Variational().prepared(model, x, rng(4)).noise, density.noise)


def test_latents_and_examples_may_have_any_shape():
    class Spatial(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.up = nn.Conv2d(1, 4, 2, 2), nn.ConvTranspose2d(2, 1, 2, 2)

        def encode(self, x):
            return self.down(x).chunk(2, dim=1)

        def decode(self, h):
            return self.up(h)

    model, x = seeded(Spatial), torch.sigmoid(gaussian(3, 1, 4, 4))
    for bound in ("elbo", "importance"):
        density = Variational(bound=bound).prepared(model, x, rng())
        assert density.noise.shape == (16, 2, 2, 2)
        together = density.log_density(model, x)
        torch.testing.assert_close(together, torch.cat([density.log_density(model, row[None]) for row in x]))
    assert density.sample(model, 7, rng()).shape == (7, 1, 4, 4)


def test_samples_have_the_models_covariance():
    model, x = probabilistic(), gaussian(2, D)
    samples = Variational(posterior, likelihood="gaussian").prepared(model, x, rng()).sample(model, 50_000, rng())
    torch.testing.assert_close(samples.mean(0), model.b.detach(), rtol=0, atol=0.05)
    expected = (model.W @ model.W.T).detach() + torch.eye(D)
    torch.testing.assert_close(samples.T.cov(), expected, rtol=0, atol=0.1)


def test_bernoulli_samples_are_zeros_and_ones_with_the_probabilities_of_the_decoder():
    model, x = autoencoder(), torch.sigmoid(gaussian(2, D))
    density = Variational().prepared(model, x, rng())
    samples = density.sample(model, 40_000, rng())
    assert set(samples.unique().tolist()) == {0.0, 1.0}
    expected = torch.sigmoid(model.decode(gaussian(40_000, LATENT, seed=9))).mean(0)
    torch.testing.assert_close(samples.mean(0), expected.detach(), rtol=0, atol=0.02)


def test_a_method_that_gives_the_bound_is_all_that_is_needed():
    model, x = probabilistic(), gaussian(4, D)
    density = Variational(elbo="log_prob").prepared(model, x, rng())
    assert torch.equal(density.log_density(model, x), model.log_prob(x))
    assert density.sampling is None and density.parameter_groups(model, x) == {}


def test_a_pickle_keeps_its_noise():
    model, x = autoencoder(), gaussian(2, D)
    density = Variational().prepared(model, x, rng())
    assert torch.equal(pickle.loads(pickle.dumps(density)).log_density(model, x), density.log_density(model, x))


def test_parts_are_found_where_activations_are_computed_anew_in_the_backward_pass():
    model = autoencoder().requires_grad_(False)
    model.decode = lambda h: checkpoint(model.dec, h, use_reentrant=False)
    assert Variational().parameter_groups(model, gaussian(2, D))["decoder"] == ["dec.weight", "dec.bias"]


@requires_zoo
def test_the_parts_of_the_real_autoencoder_are_found_by_what_they_reach():
    from zoo.models import mnist_vae

    groups = Variational().parameter_groups(mnist_vae(), torch.rand(2, 784, generator=rng()))
    assert groups["decoder"] == ["fc3.weight", "fc3.bias", "fc4.weight", "fc4.bias"]
    assert groups["encoder"] == [f"{layer}.{part}" for layer in ("fc1", "fc21", "fc22") for part in ("weight", "bias")]
