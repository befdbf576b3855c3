"""What a fit is said to do, against what it does."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sknfk import NFKTransformer
from sknfk._torch import _PRECISION_SWITCHES

from ..cases import MODELS, convnet, mlp, rows, seeded, tokens
from .test_untouched import assert_untouched, snapshot, states


def images(n_rows):
    return rows(n_rows, 1, 8, 8).astype(np.float32)


OPTIONS = [
    {},
    {"n_components": 20},
    {"solver": "krylov"},
    {"solver": "subspace", "batch_size": 7},
    {"solver": "paper"},
    {"solver": "krylov", "gradient_cache": "device", "tol": 1e-2},
    {"engine": "vmap"},
    {"max_memory": 2**20},
    {"dtype": "float64"},
    {"n_components": 0.5, "max_components": 30},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_fit_does_what_was_explained(options):
    X = images(100)
    nfk = NFKTransformer(convnet().float(), **{"n_components": 6, "random_state": 0} | options)
    told = nfk.explain(X)
    nfk.fit(X)
    assert (told.plan.solver, told.plan.batch_size, told.engine) == (nfk.solver_, nfk.batch_size_, nfk.engine_)
    assert (told.n_samples, told.n_parameters) == (100, nfk.n_parameters_)
    assert nfk.n_components_ <= told.n_components
    assert told.density == repr(nfk.density_)
    assert [layer.parameter for layer in told.layers] == nfk.parameter_names_
    assert sum(layer.n_entries for layer in told.layers) == nfk.n_parameters_


def test_a_cache_is_announced_where_a_fit_makes_one():
    X = images(200)
    for option, expected in [("auto", "device"), (None, None), ("ram", "ram")]:
        told = NFKTransformer(convnet().float(), 4, solver="krylov", gradient_cache=option).explain(X)
        assert told.plan.cache == expected
        assert ("gradient cache" in told.plan.memory) == (expected is not None)


def test_printed_it_names_every_parameter_the_passes_the_memory_and_the_outputs():
    told = NFKTransformer(convnet().float(), 4, solver="krylov").explain(images(200))
    text = str(told)
    for name, parameter in convnet().named_parameters():
        line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        assert str(parameter.numel()) in line.split()
    assert f"predicted  {told.n_sweeps} sweeps and a pass for the statistics" in text
    for purpose in told.plan.memory:
        assert purpose in text
    low, high = told.output_range
    assert f"outputs from {low:.3g} to {high:.3g}, entropy {told.output_entropy:.2f} nats" in text
    for value in (told.engine, told.engine_reason, told.plan.solver_reason, told.plan.cache_reason, told.density):
        assert value in text
    assert "200 examples, 192 parameters, 4 components" in text
    assert told.seconds > 0 and told.forward_flops > 0


def test_costs_of_a_parameter_are_those_of_both_products():
    told = NFKTransformer(mlp(), 4, solver="krylov", n_oversamples=6).explain(rows(60))
    costs = {layer.parameter: layer for layer in told.layers}
    assert costs["0.weight"].flops == 2 * 2 * 35 * 10  # both products of a row with 10 probes
    assert all(0 < layer.n_bytes <= 8 * 2 * max(layer.n_entries, 12) for layer in told.layers)


def test_the_range_of_the_outputs_is_theirs():
    X, model = rows(60), mlp()
    told = NFKTransformer(model, 4).explain(X)
    outputs = model(torch.from_numpy(X)).detach()
    assert told.output_range == pytest.approx((float(outputs.min()), float(outputs.max())))


def test_entropy_of_an_untrained_classifier_on_zeros_is_that_of_a_guess():
    def build():
        net = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 10))
        nn.init.zeros_(net[0].bias)
        nn.init.zeros_(net[2].bias)
        return net

    X = np.zeros((30, 5))
    told = NFKTransformer(seeded(build), 2).explain(X)
    assert told.output_entropy == pytest.approx(math.log(10))
    assert told.output_range == (0.0, 0.0)
    sure = seeded(build)
    with torch.no_grad():
        sure[2].bias[3] = 100
    assert NFKTransformer(sure, 2).explain(X).output_entropy == pytest.approx(0, abs=1e-6)


def test_explaining_makes_no_pass_over_x(visited):
    NFKTransformer(convnet().float(), 4, engine="layerwise", batch_size=16).explain(images(500))
    assert sum(visited) < 60  # a few batches


def settings():
    return (
        [switch.fp32_precision for switch in _PRECISION_SWITCHES],
        torch.backends.mha.get_fastpath_enabled(),
        torch.is_grad_enabled(),
    )


@pytest.mark.parametrize("is_fitted", [False, True])
def test_explaining_changes_nothing(is_fitted):
    model, X = convnet().train(), rows(40, 1, 8, 8)
    nfk = NFKTransformer(model, 4)
    if is_fitted:
        nfk.fit(X[:20])
    attributes, module, before, outside = dict(vars(nfk)), snapshot(model), states(), settings()
    copy = X.copy()
    nfk.explain(X)
    assert vars(nfk).keys() == attributes.keys()
    assert all(vars(nfk)[name] is value for name, value in attributes.items())
    assert_untouched(module, snapshot(model))
    # random_state=None takes numpy's generator, as a fit does.
    assert before[0] == states()[0] and torch.equal(before[1], states()[1])
    assert settings() == outside
    assert np.array_equal(X, copy)


def test_a_fitted_transformer_is_explained_for_the_rows_given():
    nfk = NFKTransformer(convnet(), 4, random_state=0).fit(rows(30, 1, 8, 8))
    told = nfk.explain(rows(500, 1, 8, 8))
    assert told.n_samples == 500 and told.plan.solver == "krylov" != nfk.solver_


class Sequences(nn.Module):
    """Logits for each of 5 positions, and their values by name."""

    def __init__(self, returns):
        super().__init__()
        self.body, self.returns = nn.Linear(5, 15), returns

    def forward(self, x):
        logits = self.body(x).view(-1, 5, 3)
        return logits if self.returns == "tensor" else {"logits": logits}


def summed(model, x):
    outputs = model(x)
    logits = outputs if isinstance(outputs, torch.Tensor) else outputs["logits"]
    return logits.logsumexp(-1).sum(1)


@pytest.mark.parametrize("returns", ["tensor", "dictionary"])
def test_models_without_a_row_of_logits_have_no_entropy(returns):
    nfk = NFKTransformer(seeded(lambda: Sequences(returns)), 2, density=summed)
    told = nfk.explain(rows(30))
    assert math.isnan(told.output_entropy) and told.output_range[0] < told.output_range[1]
    assert "nan" in str(told)


@pytest.mark.filterwarnings("ignore:.*batching rule:UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_explained(name):
    model, X = MODELS[name]()
    told = NFKTransformer(model, 2, random_state=0).explain(X)
    assert {layer.parameter for layer in told.layers} == {name for name, _ in model.named_parameters()}
    assert all(layer.path and layer.n_bytes >= 0 for layer in told.layers)
    assert str(told)


def test_a_table_that_is_looked_up_is_said_to_be():
    X = np.random.default_rng(0).integers(0, 11, size=(30, 5))
    told = NFKTransformer(tokens(), 2).explain(X)
    costs = {layer.parameter: layer for layer in told.layers}
    assert costs["embedding.weight"].path != costs["head.bias"].path


def test_a_parameter_that_the_density_does_not_use_is_explained():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.spare = nn.Linear(5, 3), nn.Linear(2, 2)

        def forward(self, x):
            return self.head(x)

    told = NFKTransformer(seeded(Spare), 2).explain(rows(30))
    assert {layer.parameter for layer in told.layers} == {"head.weight", "head.bias", "spare.weight", "spare.bias"}


def test_the_model_of_no_model_is_explained():
    X = rows(60)
    nfk = NFKTransformer(n_components=3, random_state=0)
    told = nfk.explain(X)
    nfk.fit(X)
    assert (told.plan.solver, told.plan.batch_size, told.engine) == (nfk.solver_, nfk.batch_size_, nfk.engine_)


def test_what_a_fit_would_refuse_is_refused():
    nfk = NFKTransformer(convnet(), 4, max_memory=1000)
    with pytest.raises(ValueError, match="`max_memory` must hold"):
        nfk.explain(rows(30, 1, 8, 8))
    with pytest.warns(UserWarning, match=r"at most min\(n_samples, n_parameters\) = 30"):
        NFKTransformer(convnet(), 64).explain(rows(30, 1, 8, 8))
