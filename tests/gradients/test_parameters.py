"""Which parameters are selected, and their order."""

import pytest
import torch
from torch import nn

from sknfk.gradients import ParameterSpace

from ..cases import mlp, tied


def test_all_that_require_a_gradient_are_selected_in_model_order():
    model = mlp()
    model[0].bias.requires_grad_(False)
    space = ParameterSpace.of(model)
    assert space.names == ("0.weight", "2.weight", "2.bias")
    assert space.n_parameters == 7 * 5 + 3 * 7 + 3


def test_globs_select_by_name_frozen_parameters_included():
    model = mlp().requires_grad_(False)
    assert ParameterSpace.of(model, "2.*").names == ("2.weight", "2.bias")
    assert ParameterSpace.of(model, ["*.bias", "0.*"]).names == ("0.weight", "0.bias", "2.bias")


@pytest.mark.parametrize(
    "select",
    [
        ParameterSpace.of,
        lambda model: ParameterSpace.of(model, "*"),
        ParameterSpace.last_layer,
        lambda model: ParameterSpace.of_layers(model, ""),
    ],
)
def test_a_model_without_parameters_is_refused_as_such(select):
    with pytest.raises(ValueError, match="must have floating parameters. It has none"):
        select(nn.Flatten())


def test_a_callable_selects_by_name_and_parameter():
    assert ParameterSpace.of(mlp(), lambda name, parameter: parameter.ndim == 1).names == ("0.bias", "2.bias")


def test_a_tied_parameter_stands_once_under_its_first_name():
    names = ParameterSpace.of(tied()).names
    assert "first.weight" in names and "second.weight" not in names


def test_split_undoes_flatten_and_name_of_finds_the_layer():
    model = mlp()
    space = ParameterSpace.of(model)
    values = space.values(model)
    flat = space.flatten([value[None] for value in values.values()])[0]
    assert all(torch.equal(values[name], part) for name, part in space.split(flat).items())
    assert [space.name_of(i) for i in (0, 34, 35, 42, 65)] == [
        "0.weight",
        "0.weight",
        "0.bias",
        "2.weight",
        "2.bias",
    ]


def test_a_pattern_that_matches_nothing_is_refused_with_near_names():
    with pytest.raises(ValueError, match=r"'2\.wieght' matches none; near names are '2\.weight'"):
        ParameterSpace.of(mlp(), "2.wieght")


def test_an_empty_selection_is_refused():
    with pytest.raises(ValueError, match="at least one pattern"):
        ParameterSpace.of(mlp(), [])
    with pytest.raises(ValueError, match="refused all 4"):
        ParameterSpace.of(mlp(), lambda name, parameter: False)
    with pytest.raises(ValueError, match=r"None of its 4 does; pass parameters='\*'"):
        ParameterSpace.of(mlp().requires_grad_(False))
