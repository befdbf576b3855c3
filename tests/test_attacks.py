"""Attacks of the benchmarks: within their bound, and on a linear model as strong as there is."""

from __future__ import annotations

import pytest
import torch

from benchmarks import attacks

EPS = 0.01


@pytest.fixture
def linear():
    """Two classes, and images far from 0 and 1, so that no pixel is cut off."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(36, 2, generator=generator)
    x = 0.4 + 0.2 * torch.rand(200, 1, 6, 6, generator=generator)
    y = torch.randint(0, 2, (200,), generator=generator)

    def classify(images):
        return (images - 0.5).flatten(1) @ weight

    return classify, weight, x, y


def seeded():
    return torch.Generator().manual_seed(1)


def test_projected_gradients_fool_whatever_can_be_fooled(linear):
    classify, weight, x, y = linear
    worst = attacks.margin(classify(x), y) - EPS * (weight[:, 0] - weight[:, 1]).abs().sum()
    found = attacks.margin(classify(attacks.pgd(classify, x, y, EPS, seeded())), y)
    assert 0 < int((worst > 0).sum()) < 200
    assert torch.equal(found > 0, worst > 0)


def test_queries_lower_every_margin_and_not_below_the_worst_case(linear):
    classify, weight, x, y = linear
    worst = attacks.margin(classify(x), y) - EPS * (weight[:, 0] - weight[:, 1]).abs().sum()
    few, many = (attacks.margin(classify(attacks.squares(classify, x, y, EPS, seeded(), n)), y) for n in (1, 300))
    assert (many < few).float().mean() > 0.9
    assert (many >= worst - 1e-5).all()
    assert (many < attacks.margin(classify(x), y)).all()


@pytest.mark.parametrize("eps", [0.05, 1.0])
def test_attacked_images_stay_within_the_bound_and_the_range(linear, eps):
    classify, _, x, y = linear
    for attacked in (attacks.pgd(classify, x, y, eps, seeded()), attacks.squares(classify, x, y, eps, seeded(), 5)):
        assert float((attacked - x).abs().max()) <= eps + 1e-6
        assert 0 <= float(attacked.min()) <= float(attacked.max()) <= 1
