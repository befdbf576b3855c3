"""Log-probabilities, dequantised by noise that all rows share, and energies of backbones and of many labels."""

import pickle

import pytest
import torch
from torch import distributions, nn

from sknfk.densities import Classifier, Embedding, LogProb, MultiLabel


def rng(seed=3):
    return torch.Generator().manual_seed(seed)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


class Normal(nn.Module):
    """A flow of one layer: x = exp(scale) z + shift."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
        self.scale = nn.Parameter(torch.tensor([0.5, -0.5], dtype=torch.float64))

    def log_prob(self, x, noise=0.0):
        return distributions.Normal(self.shift, self.scale.exp()).log_prob(x + noise).sum(1)


def grey():
    return torch.tensor([[0.0, 3.0], [2.0, 1.0], [5.0, 0.0]], dtype=torch.float64)


def prepared(density, model=None, x=None):
    return density.prepared(model or Normal(), grey() if x is None else x, rng())


@pytest.mark.parametrize("method", ["log_prob", lambda model, x: model.log_prob(x)], ids=["a name", "a callable"])
def test_a_method_gives_the_log_probability(method):
    assert torch.equal(LogProb(method).log_density(Normal(), grey()), Normal().log_prob(grey()))


@pytest.mark.parametrize("dequantize", ["add", "pass"])
@pytest.mark.parametrize("n_draws", [1, 5])
def test_a_dequantised_log_probability_is_the_mean_over_draws_that_all_rows_share(dequantize, n_draws):
    model, x = Normal(), grey()
    density = prepared(LogProb("log_prob", dequantize=dequantize, n_draws=n_draws))
    assert density.noise.shape == (n_draws, 2)
    assert 0 <= float(density.noise.min()) and float(density.noise.max()) < 1
    expected = torch.stack([model.log_prob(x + u) for u in density.noise]).mean(0)
    torch.testing.assert_close(density.log_density(model, x), expected)
    alone = torch.cat([density.log_density(model, row[None]) for row in x])
    torch.testing.assert_close(alone, expected)


def test_the_mean_over_noise_bounds_the_log_probability_of_the_grey_value():
    model = Normal()
    found = prepared(LogProb("log_prob", dequantize="add", n_draws=4000)).log_density(model, grey())
    normal = distributions.Normal(model.shift, model.scale.exp())
    exact = (normal.cdf(grey() + 1) - normal.cdf(grey())).log().sum(1)
    assert bool((found <= exact + 0.02).all())


def test_integer_rows_are_dequantised_too():
    density = prepared(LogProb("log_prob", dequantize="add"), x=grey().long())
    expected = Normal().log_prob(grey() + density.noise.float())
    torch.testing.assert_close(density.log_density(Normal(), grey().long()), expected, rtol=1e-6, atol=0)


def test_noise_is_that_of_the_seed_and_is_pickled():
    one, same, other = (LogProb("log_prob", dequantize="add").prepared(Normal(), grey(), rng(s)) for s in (1, 1, 2))
    assert torch.equal(one.noise, same.noise) and not torch.equal(one.noise, other.noise)
    assert torch.equal(pickle.loads(pickle.dumps(one)).noise, one.noise)


def test_an_embedding_is_half_the_squared_length_of_the_features_of_any_shape():
    h = gaussian(4, 3, 2, 2)
    torch.testing.assert_close(Embedding().log_density(nn.Identity(), h), 0.5 * h.square().sum((1, 2, 3)))


def test_a_projected_embedding_is_that_of_a_fixed_matrix_whose_mean_square_is_one():
    h = gaussian(4, 6)
    density = Embedding(3).prepared(nn.Identity(), h, rng())
    torch.testing.assert_close(density.log_density(nn.Identity(), h), 0.5 * (h @ density.matrix.T).square().sum(1))
    wide = Embedding(20_000).prepared(nn.Identity(), h, rng())
    torch.testing.assert_close(wide.log_density(nn.Identity(), h), 0.5 * h.square().sum(1), rtol=0.05, atol=0)
    again = Embedding(3).prepared(nn.Identity(), h, rng())
    assert torch.equal(again.matrix, density.matrix)


@pytest.mark.parametrize("n_labels", [1, 4])
def test_many_labels_are_as_many_binary_classifiers(n_labels):
    logits = 10 * gaussian(5, n_labels)
    expected = sum(Classifier().log_density(nn.Identity(), logits[:, [c]]) for c in range(n_labels))
    torch.testing.assert_close(MultiLabel().log_density(nn.Identity(), logits), expected)
