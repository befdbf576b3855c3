"""The layerwise engine against plain autograd: each kind of layer, and each way to use a weight."""

import copy
import gc
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sknfk.densities import CallableDensity, Classifier
from sknfk.exceptions import UnsupportedByEngineError
from sknfk.gradients import (
    LayerwiseEngine,
    LogDensityModel,
    LoopEngine,
    OuterBlock,
    ParameterSpace,
    _convolutions,
    _layerwise,
    _parts,
    _rules,
    select_engine,
)
from sknfk.testing import check_engine

from ..cases import MODELS, convnet, mlp, rows, seeded
from .layer_cases import ATTENTION, CONVOLUTIONS, LINEAR, SERVED, WAVE, Written, gaussian, shaken, written

# Gradients in float64 against plain autograd in float64: rounding alone.
AUTOGRAD_RTOL = 1e-12
# In float32: some hundred eps, by cancellation and sums in another order.
FLOAT32_RTOL = 1e-5


def seen(model, density=WAVE, parameters=None):
    return LogDensityModel(model, density, ParameterSpace.of(model, parameters))


def assert_same(found, expected, rtol=AUTOGRAD_RTOL):
    assert found.shape == expected.shape
    assert float((found - expected).norm()) <= rtol * float(expected.norm())


def assert_serves_all(model, x, rtol=AUTOGRAD_RTOL, density=WAVE):
    """Every parameter by a rule, and the gradients those of plain autograd, one example at a time."""
    engine = LayerwiseEngine(seen(model, density))
    assert_same(engine(x).rows(), LoopEngine(seen(model, density))(x).rows(), rtol)
    assert engine.unserved(x) == ()


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


# ---------------------------------------------------------------- left to another engine


class Sign(torch.autograd.Function):
    """Straight-through: no derivative of its own."""

    @staticmethod
    def forward(ctx, W):
        return W.sign()

    @staticmethod
    def backward(ctx, signal):
        return 0.5 * signal


class OwnProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, W):
        ctx.save_for_backward(x, W)
        return F.linear(x, W)

    @staticmethod
    def backward(ctx, g):
        x, W = ctx.saved_tensors
        return g @ W, g.flatten(0, -2).T @ x.flatten(0, -2)


def backwards(x):
    return x.flip(0)


def a_and(**parts):
    return lambda: {"a": nn.Linear(4, 4), **{name: part() for name, part in parts.items()}}


# name -> (model and rows, parameters that fall to another engine)
FALLING = {
    "lstm": (
        written(lambda m, x: m.a(m.q(x)[0]), a_and(q=lambda: nn.LSTM(4, 4, batch_first=True)), 3, 4),
        ("q.weight_ih_l0", "q.weight_hh_l0", "q.bias_ih_l0", "q.bias_hh_l0"),
    ),
    "gru cell": (
        written(lambda m, x: m.a(m.q(x)), a_and(q=lambda: nn.GRUCell(4, 4)), 4),
        ("q.weight_ih", "q.weight_hh", "q.bias_ih", "q.bias_hh"),
    ),
    "einsum": (
        written(lambda m, x: torch.einsum("bti,io->bto", m.a(x), m.W), a_and(W=lambda: torch.rand(4, 3)), 3, 4),
        ("W",),
    ),
    "prelu": (written(lambda m, x: m.q(m.a(x)), a_and(q=nn.PReLU), 3, 4), ("q.weight",)),
    "bilinear": (
        written(lambda m, x: m.q(m.a(x), x), a_and(q=lambda: nn.Bilinear(4, 4, 2)), 3, 4),
        ("q.weight", "q.bias"),
    ),
    "bag of embeddings": (
        written(lambda m, x: m.a(m.q((x.abs() * 3).long() % 5)), a_and(q=lambda: nn.EmbeddingBag(5, 4, mode="sum")), 6),
        ("q.weight",),
    ),
    "a bias that is broadcast": (
        written(lambda m, x: F.linear(m.a(x), m.W, m.b), a_and(W=lambda: torch.rand(3, 4), b=lambda: torch.rand(1)), 4),
        ("W", "b"),
    ),
    "a vector as a weight": (
        written(lambda m, x: F.linear(m.a(x), m.w), a_and(w=lambda: torch.rand(4)), 3, 4),
        ("w",),
    ),
    "a choice entry by entry": (
        written(lambda m, x: torch.where(x > 0, m.a(x), m.w), a_and(w=lambda: torch.rand(4)), 3, 4),
        ("w",),
    ),
    "a weight from the left": (
        written(lambda m, x: m.W @ m.a(x), a_and(W=lambda: torch.rand(2, 3)), 3, 4),
        ("W",),
    ),
    "a product of its own": (
        written(lambda m, x: m.a(OwnProduct.apply(x, m.W)), a_and(W=lambda: torch.rand(4, 4)), 3, 4),
        ("W",),
    ),
    "frames as examples of a batch norm": (
        written(
            lambda m, x: m.q(m.a(x).flatten(0, 1)).unflatten(0, x.shape[:2]), a_and(q=lambda: nn.BatchNorm1d(4)), 3, 4
        ),
        ("q.weight", "q.bias"),
    ),
    "an axis folded outside the examples": (
        written(
            lambda m, x: (
                m.q(m.a(x).unflatten(2, (2, 2)).permute(2, 0, 1, 3).flatten(0, 2))
                .unflatten(0, (2, *x.shape[:2]))
                .sum(0)
            ),
            a_and(q=lambda: nn.Linear(2, 3)),
            3,
            4,
        ),
        ("q.weight", "q.bias"),
    ),
    "a batch turned round": (
        written(lambda m, x: m.a(x) + backwards(m.q(backwards(x))), a_and(q=lambda: nn.Linear(4, 4)), 3, 4),
        ("q.weight", "q.bias"),
    ),
    "a layer that is silent on the first rows": (
        written(
            lambda m, x: m.a(x) + torch.relu(m.q(x.flatten(0, 1)) - 100).unflatten(0, x.shape[:2]),
            a_and(q=lambda: nn.Linear(4, 4)),
            3,
            4,
        ),
        ("q.weight", "q.bias"),
    ),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch loops where it has no batching rule
@pytest.mark.parametrize("name", FALLING)
def test_parameters_without_a_rule_fall_to_another_engine(name):
    build, unserved = FALLING[name]
    model, x = build()
    engine = LayerwiseEngine(seen(model))
    for batch in (x, gaussian(7, *x.shape[1:], seed=3), x[:1]):
        assert_same(engine(batch).rows(), LoopEngine(seen(model))(batch).rows())
    assert engine.unserved(x) == unserved


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: F.linear(m.a(x), Sign.apply(m.W)),
        lambda m, x: m.a(x.flatten(0, 1)).relu().unflatten(0, x.shape[:2]) @ m.W.tril(),
        lambda m, x: torch.tanh(x.new_tensor(2.0) * m.a(x)) * m.W.diagonal(),
    ],
    ids=["straight through", "triangle", "diagonal"],
)
def test_weights_made_from_parameters_pull_their_gradients_back(function):
    assert_serves_all(*written(function, a_and(W=lambda: torch.rand(4, 4)), 3, 4)())


# ---------------------------------------------------------------- refused


def each_row(m, x):
    return torch.stack([m.a(row) for row in x])


def by_value(m, x):
    return m.a(x) if float(x.sum()) > 0 else m.a(torch.tanh(x))


def by_sign_of_rows(m, x):
    flat, out = x.flatten(0, 1), torch.zeros_like(x).flatten(0, 1)
    out[flat[:, 0] > 0] = m.a(flat[flat[:, 0] > 0])
    return out.unflatten(0, x.shape[:2])


def by_places(m, x):
    places = (x[:, 0, 0] > 0).nonzero()[:, 0]
    return m.a(x).index_add(0, places, m.a(x)[places])


def in_order(m, x):
    order = x.sum((1, 2)).argsort()
    return m.a(x[order])[order.argsort()]


def gathered_in_order(m, x):
    order = x[:, :1, :1].argsort(0)
    there, back = order.expand_as(x), order.argsort(0).expand_as(x)
    return m.a(x.gather(0, there)).gather(0, back)


def slope(m, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(torch.tanh(m.a(x)).sum(), x, create_graph=True)[0]


def functional_slope(m, x):
    return torch.func.grad(lambda t: torch.tanh(m.a(t)).sum())(x)


REFUSED = {
    "each row alone": (each_row, "other functions for a batch of two"),
    "a branch by value": (by_value, "goes by the values of the rows"),
    "a mask by value": (by_sign_of_rows, "picks rows by their values"),
    "places by value": (by_places, "goes by the values of the rows"),
    "an order by value": (in_order, "picks rows by their values"),
    "an order by value, gathered": (gathered_in_order, "picks rows by their values"),
    "a slope": (slope, "differentiates inside"),
    "a functional slope": (functional_slope, "differentiates inside"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_few_rows_cannot_foresee_is_refused_and_auto_takes_another_engine(name):
    function, reason = REFUSED[name]
    model, x = written(function, a_and(), 3, 4)()
    with pytest.raises(UnsupportedByEngineError, match=reason):
        LayerwiseEngine(seen(model))(x)
    engine, why = select_engine("auto", seen(model), x[:2])
    assert (engine.name == "vmap" and "layerwise: " in why) or (engine.name == "loop" and "engine='vmap'" in why)
    assert_same(engine(x).rows(), LoopEngine(seen(model))(x).rows())


def directional(m, x):
    return torch.func.jvp(lambda t: torch.tanh(m.a(t)), (x,), (torch.ones_like(x),))[1]


def recomputed(m, x):
    return checkpoint(lambda t: torch.tanh(m.a(t)), m.q(x), use_reentrant=False)


@pytest.mark.parametrize("function", [directional, recomputed])
def test_auto_goes_round_what_fails_inside(function):
    model, x = written(function, a_and(q=lambda: nn.Linear(4, 4)), 3, 4)()
    engine, _ = select_engine("auto", seen(model), x[:2])
    assert engine.name != "layerwise"
    assert_same(engine(x).rows(), LoopEngine(seen(model))(x).rows())


def overwritten(m, x):
    h = m.a(x)
    y = m.b(h)
    h.mul_(2)
    return y + h


@pytest.mark.parametrize("parameters, error", [("*.bias", UnsupportedByEngineError), (None, UnsupportedByEngineError)])
def test_an_input_that_is_overwritten_later_is_refused(parameters, error):
    # Plain autograd serves the biases alone, which do not need the input, and refuses the weights too.
    model, x = written(overwritten, lambda: {"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}, 3, 4)()
    with pytest.raises(error, match="overwritten"):
        LayerwiseEngine(seen(model, parameters=parameters))(x)


def test_a_model_that_changes_its_calls_later_is_refused():
    model, x = written(lambda m, x: m.a(x) if m.calm else torch.tanh(m.a(x) * m.a(x)), a_and(), 3, 4)()
    model.calm = True
    engine = LayerwiseEngine(seen(model))
    engine(x)
    model.calm = False
    with pytest.raises(UnsupportedByEngineError, match="other functions for other rows"):
        engine(x)


def test_a_function_that_nothing_can_look_into_is_not_taken_for_a_weight():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        scripted = torch.jit.script(nn.Tanh())
    model, _ = written(lambda m, x: m.b(scripted(m.a(x))), a_and(b=lambda: nn.Linear(4, 4)), 3, 4)()
    engine = LayerwiseEngine(seen(model))
    for n_rows in (4, 1):
        x = gaussian(n_rows, 3, 4)
        assert_same(engine(x).rows(), LoopEngine(seen(model))(x).rows())


def test_no_rule_at_all_is_said():
    model = seeded(lambda: nn.LSTM(4, 3, batch_first=True))
    density = CallableDensity(lambda m, x: m(x)[0].flatten(1).sum(1))
    with pytest.raises(UnsupportedByEngineError, match="knows no rule for any of the model's parameters"):
        select_engine("layerwise", seen(model, density), gaussian(2, 3, 4))


@pytest.mark.parametrize("name", ["linear on vectors", "linear on tokens", "linear, flattened by position"])
def test_rows_that_overflow_give_what_plain_autograd_gives(name):
    model, x = SERVED[name]()
    density = CallableDensity(lambda m, x: WAVE.log_density(m, x) * x.flatten(1).sum(1) ** 4)
    large = torch.full_like(x, 1e150)
    found, expected = (engine(seen(model, density))(large).rows() for engine in (LayerwiseEngine, LoopEngine))
    assert torch.equal(found.isfinite(), expected.isfinite())


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
