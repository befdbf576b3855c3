"""The layerwise engine checks itself on two examples, keeps nothing and leaves no mark."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sknfk.densities import Classifier
from sknfk.exceptions import UnsupportedByEngineError
from sknfk.gradients import (
    LayerwiseEngine,
    LogDensityModel,
    ParameterSpace,
    _rules,
    select_engine,
)

from ..cases import convnet, mlp, rows, seeded
from .layer_cases import Written, gaussian, shaken
from .layerwise_checks import assert_same, assert_serves_all, seen
from .served_cases import SERVED

# ---------------------------------------------------------------- the check on two examples


def off_by_a_hundredth(rule):
    def wrong(call, signal, layout, workspace):
        block = rule(call, signal, layout, workspace)
        return _rules.DenseBlock(1.01 * block.rows())

    return wrong


@pytest.mark.parametrize(
    "function, role, parameter",
    [
        (F.conv2d, "weight", "0.weight"),
        (F.conv2d, "bias", "0.bias"),
        (F.batch_norm, "weight", "1.weight"),
        (F.batch_norm, "bias", "1.bias"),
        (F.linear, "weight", "5.weight"),
        (F.linear, "bias", "5.bias"),
    ],
)
def test_one_rule_that_is_a_hundredth_off_is_found_and_named(function, role, parameter, monkeypatch):
    model = LogDensityModel(convnet(), Classifier(), ParameterSpace.of(convnet()))
    x = torch.from_numpy(rows(2, 1, 8, 8))
    gradients = _rules.RULES[function].gradients
    monkeypatch.setitem(gradients, role, off_by_a_hundredth(gradients[role]))
    with pytest.raises(UnsupportedByEngineError, match=f"differ from plain autograd's.*'{parameter}'"):
        select_engine("layerwise", model, x)
    engine, reason = select_engine("auto", model, x)
    assert engine.name == "vmap"
    assert f"'{parameter}'" in reason


# ---------------------------------------------------------------- nothing is kept or left


class Spy(nn.Module):
    """Hands its input on, and remembers it weakly."""

    def forward(self, x):
        self.seen = weakref.ref(x)
        return x


def test_neither_rows_nor_activations_live_on_after_the_block():
    spy = Spy()
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), spy, nn.Linear(5, 2)))
    engine = LayerwiseEngine(seen(model))
    x = gaussian(3, 4)
    block = engine(x)
    block.rows()
    rows_alive, activation = weakref.ref(x), spy.seen
    del x, block
    gc.collect()
    assert rows_alive() is None and activation() is None


def test_gradients_of_a_block_do_not_hold_the_graph():
    spy = Spy()
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 5), spy, nn.Tanh(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2)))
    engine = LayerwiseEngine(seen(model))
    block = engine(gaussian(3, 4))
    gc.collect()
    assert spy.seen() is None  # it is no layer's input
    assert bool(block.rows().any()) and not block.rows().requires_grad


class Caching(nn.Module):
    """Writes what it computes into a buffer, and reads it from there."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)
        self.register_buffer("cache", torch.zeros(8, 4))

    def forward(self, x):
        self.cache[: len(x)] = torch.tanh(x)
        return self.b(torch.tanh(self.a(self.cache[: len(x)] + 0)))


def attributes(tensors):
    return [dict(vars(t)) for t in tensors]


def test_no_mark_stays_on_rows_parameters_or_buffers():
    model, x = seeded(Caching), gaussian(3, 4)
    tensors = [x, *model.parameters(), *model.buffers()]
    before = attributes(tensors)
    assert_serves_all(model, x)
    assert attributes(tensors) == before


def test_module_and_rows_are_left_as_they_were():
    model, x = SERVED["activations in place"]()
    before, flags, rows_before = (
        copy.deepcopy(model.state_dict()),
        [p.requires_grad for p in model.parameters()],
        x.clone(),
    )
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    LayerwiseEngine(seen(model))(x).rows()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(x, rows_before) and not x.requires_grad


def test_a_deep_copy_of_a_model_in_use_is_a_model():
    model = mlp()
    engine = LayerwiseEngine(seen(model, Classifier()))
    x = torch.from_numpy(rows(4))
    expected = engine(x).rows()
    assert_same(LayerwiseEngine(seen(copy.deepcopy(model), Classifier()))(x).rows(), expected)


def test_uses_name_the_layers_in_the_order_of_the_forward_pass():
    uses = LayerwiseEngine(seen(convnet(), Classifier())).uses(torch.from_numpy(rows(2, 1, 8, 8)))
    assert [names for names, _ in uses] == [
        ("0.weight", "0.bias"),
        ("1.weight", "1.bias"),
        ("3.weight", "3.bias"),
        ("5.weight", "5.bias"),
    ]
    assert [use.kind for _, use in uses] == ["convolve", "batch_norm", "convolve", "linear"]


def test_shaken_cases_have_no_parameter_left_at_its_start():
    model = seeded(lambda: shaken(Written(lambda m, x: m.n(x), n=nn.LayerNorm(4))))
    assert bool((model.n.weight != 1).all()) and bool((model.n.bias != 0).all())
