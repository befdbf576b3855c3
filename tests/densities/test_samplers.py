"""Samplers against distributions that are known."""

import math
import pickle

import pytest
import torch
from torch import nn

from sknfk.densities import Autoregressive, Classifier, Langevin, Output, Sampled


def rng(seed=3):
    return torch.Generator().manual_seed(seed)


class Quadratic(nn.Module):
    """log p(x) = -(x - 1)^2 / (2 0.25), summed: a normal of mean 1 and variance 0.25."""

    def __init__(self):
        super().__init__()
        self.mean = nn.Parameter(torch.ones(2, dtype=torch.float64))

    def forward(self, x):
        return -2 * (x - self.mean).square().sum(1)


def langevin(step=0.01, **options):
    options = {
        "n_steps": 600,
        "step_size": step,
        "noise": math.sqrt(2 * step),
        "clip": 1e9,
        "bounds": (-9, 9),
        **options,
    }
    return Sampled(Output(), Langevin(**options))


def test_unadjusted_langevin_samples_a_normal_distribution():
    x = torch.zeros(3, 2, dtype=torch.float64)
    samples = langevin().prepared(Quadratic(), x, rng()).sample(Quadratic(), 4000, rng())
    torch.testing.assert_close(samples.mean(0), torch.ones(2).double(), rtol=0, atol=0.03)
    torch.testing.assert_close(samples.T.cov(), 0.25 * torch.eye(2).double(), rtol=0, atol=0.02)


def test_chains_are_those_of_the_seed_stay_in_their_bounds_and_leave_the_model_alone():
    model, x = Quadratic(), torch.zeros(3, 2, dtype=torch.float64)
    density = langevin(n_steps=5, bounds=(-0.5, 0.5)).prepared(model, x, rng())
    one, same, other = (density.sample(model, 200, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.shape == (200, 2) and float(one.abs().max()) <= 0.5
    assert model.mean.grad is None and not one.requires_grad


def test_entries_follow_each_other_with_the_probabilities_of_a_markov_chain():
    transition = torch.tensor([[0.9, 0.1], [0.4, 0.6]], dtype=torch.float64)

    def logits(model, x):
        before = torch.cat([torch.zeros(len(x), 1), x[:, :-1]], dim=1).long()  # (B, 6), each entry's predecessor
        return transition[before].log().transpose(1, 2)  # (B, 2, 6)

    x = torch.zeros(1, 6, dtype=torch.float64)
    density = Sampled(Output(), Autoregressive(logits)).prepared(nn.Identity(), x, rng())
    samples = density.sample(Quadratic(), 20_000, rng())
    assert set(samples.unique().tolist()) == {0.0, 1.0}
    for value in (0, 1):
        after = samples[:, 1:][samples[:, :-1] == value]
        assert float(after.mean()) == pytest.approx(float(transition[value, 1]), abs=0.01)
    assert float(samples[:, 0].mean()) == pytest.approx(0.1, abs=0.01)


def test_a_sampled_density_is_its_density_otherwise():
    logits = torch.randn(4, 3, generator=rng())
    density = Sampled(Classifier(), Langevin())
    assert torch.equal(density.log_density(nn.Identity(), logits), Classifier().log_density(nn.Identity(), logits))
    assert density.sampling == "iterative"
    assert repr(density) == "Sampled(density=Classifier(), sampler=Langevin())"


def test_a_sampled_density_must_be_prepared_and_can_be_pickled():
    model, x = Quadratic(), torch.zeros(3, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="must be prepared"):
        langevin().sample(model, 2, rng())
    density = langevin(n_steps=3).prepared(model, x, rng())
    restored = pickle.loads(pickle.dumps(density))
    assert torch.equal(restored.sample(model, 4, rng()), density.sample(model, 4, rng()))


@pytest.mark.parametrize(
    ("density", "sampler", "message"),
    [
        (Output(), "langevin", "`sampler` must be a Sampler. Got str"),
        (Output(), Langevin, "`sampler` must be a Sampler. Got Langevin; pass an instance"),
        ("output", Langevin(), "`density` must be a Density. Got str"),
        (Output, Langevin(), "`density` must be a Density. Got Output; pass an instance"),
    ],
)
def test_what_is_no_density_or_no_sampler_is_refused(density, sampler, message):
    with pytest.raises(TypeError, match=message):
        Sampled(density, sampler)
