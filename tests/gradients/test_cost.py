"""The cost model that chooses between engines."""

import pytest
import torch
from torch import nn

from sknfk.densities import Classifier
from sknfk.gradients import LogDensityModel, ParameterSpace, engine_costs, forward_flops, select_engine

from ..cases import rows, seeded


def seen(model):
    return LogDensityModel(model, Classifier(), ParameterSpace.of(model))


def test_forward_flops_are_two_for_each_product_of_an_example():
    model = seeded(lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 5)))
    x = torch.from_numpy(rows(3, 1, 8, 8))
    assert forward_flops(seen(model), x) == 2 * (36 * 4 * 9 + 144 * 5)


def test_with_a_rule_for_every_use_layerwise_costs_less():
    for flops, n_parameters in ((10**3, 10**5), (10**9, 10**5)):
        costs = engine_costs(flops, n_parameters)
        assert costs.layerwise < costs.vmap


@pytest.mark.parametrize(
    ("flops", "n_left_over", "layerwise_wins"),
    [(2 * 10**6, 10**4, True), (200 * 10**6, 10**4, False), (2 * 10**6, 99 * 10**4, False)],
)
def test_a_second_pass_pays_where_it_is_cheap_beside_forming(flops, n_left_over, layerwise_wins):
    costs = engine_costs(flops, 10**6, n_left_over)
    assert (costs.layerwise < costs.vmap) == layerwise_wins


class Scaled(nn.Module):
    """A wide body by rules, a small parameter without one."""

    def __init__(self, width, n_outputs=3):
        super().__init__()
        self.body, self.mix = nn.Linear(5, width), nn.Parameter(torch.randn(n_outputs, width))

    def forward(self, x):
        return torch.einsum("bi,oi->bo", torch.tanh(self.body(x)), self.mix)


def test_auto_names_what_falls_to_another_engine_and_compares_the_costs():
    x = torch.from_numpy(rows(2))
    model = seeded(lambda: Scaled(40))
    engine, reason = select_engine("auto", seen(model), x)
    assert engine.name == "layerwise"
    assert "but for mix, which fall to another engine" in reason and "vmap" in reason


def test_auto_takes_vmap_where_most_has_no_rule():
    engine, reason = select_engine("auto", seen(seeded(lambda: Scaled(40, 300))), torch.from_numpy(rows(2)))
    assert engine.name == "vmap" and "no rule for mix" in reason
