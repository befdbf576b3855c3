"""Engines against plain autograd, one example and one backward pass at a time."""

import pytest
import torch
from torch import nn

from sknfk.densities import CallableDensity, Classifier, Logit
from sknfk.exceptions import UnsupportedByEngineError
from sknfk.gradients import (
    DenseBlock,
    JvpEngine,
    LayerwiseEngine,
    LogDensityModel,
    ParameterSpace,
    VmapEngine,
    make_engine,
    select_engine,
)

from ..cases import MODELS, mlp, rows, seeded
from .layer_cases import Written

# Gradients in float64 against plain autograd in float64: rounding alone.
AUTOGRAD_RTOL = 1e-12

VMAP_SERVES = ["mlp", "convnet", "tied", "attention", "tokens"]
LAYERWISE_SERVES = [*VMAP_SERVES, "recurrent"]


def gradients_by_plain_autograd(model, density, X):
    """The slow exact twin: ``backward`` on each example's log-density, of the module itself."""
    found = []
    for row in X:
        model.zero_grad()
        density.log_density(model, row[None]).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    model.zero_grad()
    return torch.stack(found)


def case(name):
    model, X = MODELS[name]()
    return LogDensityModel(model, Classifier(), ParameterSpace.of(model)), torch.from_numpy(X)


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert float((found - expected).norm()) <= AUTOGRAD_RTOL * float(expected.norm())


@pytest.mark.parametrize("name", MODELS)
def test_loop_gives_the_gradients_of_plain_autograd(name):
    model, x = case(name)
    assert_same(make_engine("loop", model)(x).rows(), gradients_by_plain_autograd(model.model, model.density, x))


@pytest.mark.parametrize("name", VMAP_SERVES)
def test_vmap_gives_the_gradients_of_plain_autograd(name):
    model, x = case(name)
    assert_same(make_engine("vmap", model)(x).rows(), gradients_by_plain_autograd(model.model, model.density, x))


@pytest.mark.parametrize("name", LAYERWISE_SERVES)
def test_layerwise_gives_the_gradients_of_plain_autograd(name):
    model, x = case(name)
    assert_same(make_engine("layerwise", model)(x).rows(), gradients_by_plain_autograd(model.model, model.density, x))


@pytest.mark.parametrize("engine", ["layerwise", "vmap", "loop", "jvp"])
@pytest.mark.parametrize("name", VMAP_SERVES)
def test_every_answer_of_a_block_equals_that_of_the_formed_matrix(engine, name):
    if (engine, name) == ("jvp", "attention"):
        from torch.nn.attention import SDPBackend, sdpa_kernel

        with sdpa_kernel(SDPBackend.MATH):  # the estimators enter it for every product
            check_block(engine, name)
    else:
        check_block(engine, name)


def check_block(engine, name):
    model, x = case(name)
    J = gradients_by_plain_autograd(model.model, model.density, x)
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(J.shape[1], 4, generator=generator, dtype=torch.float64)
    Y = torch.randn(J.shape[0], 4, generator=generator, dtype=torch.float64)
    block = make_engine(engine, model)(x)
    assert_same(block.matmat(W), J @ W)
    assert_same(block.rmatmat(Y), J.T @ Y)
    assert_same(block.sum(), J.sum(0))
    assert_same(block.squared_sum(), J.square().sum(0))
    assert_same(block.rows(), J)
    memory = torch.full((len(J) + 2, J.shape[1] + 3), torch.nan, dtype=J.dtype)
    assert_same(block.rows(out=memory[1:-1, 2:-1]), J)
    assert_same(memory[1:-1, 2:-1], J)


def test_jvp_forms_what_the_loop_gives_where_vmap_refuses():
    model, x = case("data_dependent")
    engine = make_engine("jvp", model, forming="loop")
    assert_same(engine(x).rows(), gradients_by_plain_autograd(model.model, model.density, x))


@pytest.mark.parametrize("columns_at_once", [2, 5, 100])
def test_jvp_takes_columns_together_as_one_by_one(columns_at_once):
    model, x = case("convnet")
    together = JvpEngine(model, make_engine("vmap", model), columns_at_once)(x)
    J = gradients_by_plain_autograd(model.model, model.density, x)
    W, Y = (torch.from_numpy(rows(length, 5)) for length in (J.shape[1], len(J)))
    assert_same(together.matmat(W), J @ W)
    assert_same(together.rmatmat(Y), J.T @ Y)
    assert_same(together.rmatmat(Y, add_to=torch.ones_like(W)), 1 + J.T @ Y)


@pytest.mark.parametrize("engine", ["layerwise", "vmap", "loop"])
def test_a_parameter_that_takes_no_part_has_gradient_zero(engine):
    model = mlp()
    model.unused = nn.Linear(2, 2).double()
    density = CallableDensity(lambda m, x: m[:3](x).logsumexp(1))
    seen = LogDensityModel(model, density, ParameterSpace.of(model))
    block = make_engine(engine, seen)(torch.from_numpy(rows(3)))
    J = block.rows(out=torch.full((3, seen.parameter_space.n_parameters), torch.nan, dtype=torch.float64))
    assert J.shape[1] == sum(p.numel() for p in model.parameters())
    assert bool((J[:, -6:] == 0).all()) and bool(J[:, :-6].any())


def with_table(**options):
    return seeded(lambda: nn.Sequential(nn.Embedding(7, 3, **options), nn.Flatten(), nn.Linear(12, 3)))


@pytest.mark.parametrize("engine", ["auto", "layerwise", "loop"])
def test_a_table_with_sparse_gradients_has_those_of_a_dense_one(engine):
    tokens = torch.tensor([[1, 1, 0, 5], [6, 2, 2, 2], [3, 3, 3, 3]])
    model = with_table(sparse=True)
    seen = LogDensityModel(model, Classifier(), ParameterSpace.of(model))
    found = select_engine(engine, seen, tokens[:2])[0](tokens).rows()
    assert_same(found, gradients_by_plain_autograd(with_table(), Classifier(), tokens))


def test_engines_leave_the_model_as_it_was():
    model, x = case("convnet")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for engine in ("layerwise", "vmap", "loop", "jvp"):
        make_engine(engine, model)(x).rmatmat(torch.ones(len(x), 1, dtype=torch.float64))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_auto_takes_the_loop_where_nothing_else_serves_and_names_the_reason():
    model, x = case("data_dependent")
    engine, reason = select_engine("auto", model, x[:2])
    assert engine.name == "loop"
    assert "engine='vmap' cannot serve this model" in reason


def test_auto_takes_layerwise_no_further_than_half_of_the_parameters():
    parts = {"a": nn.Linear(5, 3), "W": torch.rand(3, 24)}  # 72 parameters of 90 are in a product without a rule
    model = seeded(lambda: Written(lambda m, x: torch.einsum("bi,io->bo", m.a(x), m.W), **parts))
    seen = LogDensityModel(model, Classifier(), ParameterSpace.of(model))
    engine, reason = select_engine("auto", seen, torch.from_numpy(rows(2)))
    assert engine.name == "vmap" and "no rule for W" in reason


@pytest.mark.parametrize("name", VMAP_SERVES)
def test_auto_takes_layerwise_where_rules_serve(name):
    model, x = case(name)
    engine, reason = select_engine("auto", model, x[:2])
    assert engine.name == "layerwise"
    assert reason.startswith("Its rules know every use of the parameters; ")


def test_auto_says_which_parameters_fall_to_another_engine():
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 7), nn.PReLU(), nn.Linear(7, 3)))
    seen = LogDensityModel(model, Classifier(), ParameterSpace.of(model))
    engine, reason = select_engine("auto", seen, torch.from_numpy(rows(2)))
    assert engine.name == "layerwise"
    assert "but for 1.weight, which fall to another engine" in reason


def test_an_engine_asked_for_by_name_that_cannot_serve_says_what_to_use():
    model, x = case("data_dependent")
    with pytest.raises(UnsupportedByEngineError, match=r"engine='vmap' cannot serve this model .*engine='loop'"):
        select_engine("vmap", model, x[:2])


def off_at_the_start(engine):
    right = engine.__call__

    def wrong(self, x):
        gradients = right(self, x).rows().clone()
        gradients[:, :5] *= 1.01
        return DenseBlock(gradients)

    return wrong


@pytest.mark.parametrize("engine", [LayerwiseEngine, VmapEngine])
def test_an_engine_whose_gradients_are_wrong_is_refused(engine, monkeypatch):
    model, x = case("mlp")
    monkeypatch.setattr(engine, "__call__", off_at_the_start(engine))
    with pytest.raises(UnsupportedByEngineError, match="differ from plain autograd's"):
        select_engine(engine.name, model, x[:2])


def test_auto_goes_on_to_the_next_engine_where_gradients_are_wrong(monkeypatch):
    model, x = case("mlp")
    for engine, following in ((LayerwiseEngine, "vmap"), (VmapEngine, "loop")):
        monkeypatch.setattr(engine, "__call__", off_at_the_start(engine))
        chosen, reason = select_engine("auto", model, x[:2])
        assert chosen.name == following
        assert "differ from plain autograd's" in reason


def test_gradients_are_taken_through_every_method_that_the_density_calls():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 3), nn.Linear(3, 1)

        def encode(self, x):
            return torch.tanh(self.a(x))

        def forward(self, x):
            raise AssertionError("this density does not call forward")

    model = seeded(TwoHeads)
    density = CallableDensity(lambda m, x: m.b(m.encode(x))[:, 0])
    seen = LogDensityModel(model, density, ParameterSpace.of(model))
    x = torch.from_numpy(rows(4))
    for engine in ("layerwise", "vmap"):
        assert_same(make_engine(engine, seen)(x).rows(), gradients_by_plain_autograd(model, density, x))


@pytest.mark.parametrize("which", ["argmax", "sum", 2])
def test_logits_have_their_own_gradients(which):
    model, x = MODELS["mlp"]()[0], torch.from_numpy(rows(4))
    seen = LogDensityModel(model, Logit(which), ParameterSpace.of(model))
    for engine in ("layerwise", "vmap"):
        assert_same(make_engine(engine, seen)(x).rows(), gradients_by_plain_autograd(model, Logit(which), x))
