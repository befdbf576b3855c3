"""The layerwise engine where no rule serves: what falls to another engine, and what is refused."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sknfk.densities import CallableDensity
from sknfk.exceptions import UnsupportedByEngineError
from sknfk.gradients import (
    LayerwiseEngine,
    LoopEngine,
    select_engine,
)

from ..cases import seeded
from .layer_cases import WAVE, gaussian, written
from .layerwise_checks import assert_same, assert_serves_all, seen
from .served_cases import SERVED

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
    model = seeded(lambda: nn.GRUCell(4, 3))
    density = CallableDensity(lambda m, x: m(x).sum(1))
    with pytest.raises(UnsupportedByEngineError, match="knows no rule for any of the model's parameters"):
        select_engine("layerwise", seen(model, density), gaussian(2, 4))


@pytest.mark.parametrize("name", ["linear on vectors", "linear on tokens", "linear, flattened by position"])
def test_rows_that_overflow_give_what_plain_autograd_gives(name):
    model, x = SERVED[name]()
    density = CallableDensity(lambda m, x: WAVE.log_density(m, x) * x.flatten(1).sum(1) ** 4)
    large = torch.full_like(x, 1e150)
    found, expected = (engine(seen(model, density))(large).rows() for engine in (LayerwiseEngine, LoopEngine))
    assert torch.equal(found.isfinite(), expected.isfinite())
