"""The layerwise engine against plain autograd: each kind of layer, and each way to use a weight."""

import pytest
import torch
from torch import nn

from sknfk.densities import CallableDensity, Classifier
from sknfk.gradients import (
    LayerwiseEngine,
    LoopEngine,
    OuterBlock,
    _convolutions,
    _layerwise,
    _parts,
)
from sknfk.testing import check_engine

from ..cases import MODELS, mlp, rows, seeded
from .layer_cases import ATTENTION, CONVOLUTIONS, LINEAR, WAVE, gaussian, written
from .layerwise_checks import FLOAT32_RTOL, assert_same, assert_serves_all, seen
from .served_cases import SERVED

# ---------------------------------------------------------------- served by rules


@pytest.mark.parametrize("name", SERVED)
def test_gradients_are_those_of_plain_autograd(name):
    assert_serves_all(*SERVED[name]())


@pytest.mark.parametrize("name", SERVED)
def test_every_answer_is_that_of_the_formed_matrix_for_any_cut_into_batches(name):
    model, x = SERVED[name]()
    check_engine(LayerwiseEngine, model, WAVE, x)


@pytest.mark.parametrize("name", ["mlp", "convnet", "tied", "attention", "recurrent", "tokens"])
def test_every_answer_is_that_of_the_formed_matrix_for_the_shared_models(name):
    model, X = MODELS[name]()
    check_engine(LayerwiseEngine, model, Classifier(), torch.from_numpy(X))


@pytest.mark.parametrize("name", ["conv2d uneven", "linear on tokens", "layer norm on tokens", "attention", "mm"])
def test_gradients_in_float32_are_those_of_plain_autograd(name):
    model, x = SERVED[name]()
    assert_serves_all(model.float(), x.float(), FLOAT32_RTOL)


@pytest.mark.parametrize("patches_from", [0, float("inf")], ids=["by patches", "by grouped convolution"])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_both_ways_of_forming_a_convolutions_gradients_agree_with_autograd(name, patches_from, monkeypatch):
    monkeypatch.setattr(_convolutions, "PATCHES_FROM", patches_from)
    assert_serves_all(*CONVOLUTIONS[name]())


@pytest.mark.parametrize("contract_from", [0, float("inf")], ids=["contracted", "formed"])
@pytest.mark.parametrize("n_probes", [1, 4, 50])
def test_outer_products_answer_alike_contracted_and_formed(contract_from, n_probes, monkeypatch):
    monkeypatch.setattr(_parts, "CONTRACT_FROM", contract_from)
    block, W, Y = OuterBlock(gaussian(5, 3), gaussian(5, 20)), gaussian(60, n_probes), gaussian(5, n_probes)
    J = torch.stack([torch.outer(g, a).flatten() for g, a in zip(block.signals, block.inputs, strict=True)])
    total = gaussian(60, n_probes, seed=2)
    assert_same(block.matmat(W), J @ W)
    assert_same(block.rmatmat(Y), J.T @ Y)
    assert_same(block.rmatmat(Y, add_to=total.clone()), total + J.T @ Y)
    assert_same(block.sum(), J.sum(0))
    assert_same(block.squared_sum(), J.square().sum(0))


@pytest.mark.parametrize("order", [(20, 1), (1, 20, 1)], ids=["formed first", "contracted first"])
def test_outer_products_with_few_and_many_probes_share_one_memory(order):
    memory = torch.empty(1000, dtype=torch.float64)

    def workspace(shape, like):
        return memory[: torch.Size(shape).numel()].view(shape)

    block = OuterBlock(gaussian(5, 4), gaussian(5, 6), workspace)
    J = torch.stack([torch.outer(g, a).flatten() for g, a in zip(block.signals, block.inputs, strict=True)])
    for n_probes in order:
        W, Y = gaussian(24, n_probes), gaussian(5, n_probes)
        assert_same(block.matmat(W), J @ W)
        assert_same(block.rmatmat(Y), J.T @ Y)


@pytest.mark.parametrize("name", LINEAR | ATTENTION)
def test_batches_of_any_size_may_follow_each_other(name, monkeypatch):
    monkeypatch.setattr(_layerwise, "KEEP_FROM_BYTES", 0)  # memory is kept for every gradient
    model, x = SERVED[name]()
    engine, loop = LayerwiseEngine(seen(model)), LoopEngine(seen(model))
    for n_rows in (3, 7, 1, 2, 7, 5, 6):
        batch = gaussian(n_rows, *x.shape[1:], seed=n_rows)
        assert_same(engine(batch).rows(), loop(batch).rows())


def test_rows_of_another_shape_are_traced_anew():
    model = SERVED["linear on tokens"]()[0]
    engine = LayerwiseEngine(seen(model))
    for n_positions in (3, 5, 1, 3):
        x = gaussian(4, n_positions, 4)
        assert_same(engine(x).rows(), LoopEngine(seen(model))(x).rows())


def test_the_order_of_folded_positions_is_found_where_only_the_middle_one_is_used():
    def middle(m, x):
        h = m.a(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (x.shape[1], -1))  # (T, B, d)
        return m.b(torch.tanh(h[1]))

    model, _ = written(middle, lambda: {"a": nn.Linear(4, 4), "b": nn.Linear(4, 2)}, 3, 4)()
    assert_serves_all(model, gaussian(5, 3, 4))


# ---------------------------------------------------------------- which parameters


@pytest.mark.parametrize("selection", ["*.bias", "before.*", ["layer.weight", "before.bias"]])
def test_a_selection_of_parameters_has_its_own_columns_alone(selection):
    model, x = SERVED["conv2d"]()
    part = seen(model, parameters=selection)
    engine = LayerwiseEngine(part)
    assert_same(engine(x).rows(), LoopEngine(part)(x).rows())
    assert {name for names, _ in engine.uses(x) for name in names} == set(part.parameter_space.names)


def test_frozen_layers_take_part_without_gradients():
    model, x = SERVED["activations in place"]()
    model[0].requires_grad_(False)
    model[3].requires_grad_(False)
    assert_serves_all(model, x)


def test_a_module_that_the_density_calls_has_no_columns():
    other = seeded(lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)))
    density = CallableDensity(lambda m, x: other(m(x))[:, 0])
    model, x = mlp(5, 2), torch.from_numpy(rows(4))
    assert_serves_all(model, x, density=density)
    uses = LayerwiseEngine(seen(model, density)).uses(x)
    assert [names for names, _ in uses] == [("0.weight", "0.bias"), ("2.weight", "2.bias"), (), ()]


def no_graph(m, x):
    with torch.no_grad():
        h = m.a(x)
    return m.b(torch.tanh(h)) + m.c(m.a(x)).detach()


def test_layers_without_a_graph_and_parameters_without_a_part_have_gradient_zero():
    def parts():
        return {name: nn.Linear(4, 4) for name in ("a", "b", "c", "unused")}

    model, x = written(no_graph, parts, 3, 4)()
    assert_serves_all(model, x)
    columns = LayerwiseEngine(seen(model))(x).rows().split(20, dim=1)
    assert [bool(c.any()) for c in columns] == [False, True, False, False]


def detached(m, x):
    h = m.a(x)
    return m.b(h.detach()) + h


def test_a_path_that_the_model_cuts_is_cut():
    assert_serves_all(*written(detached, lambda: {"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}, 3, 4)())
