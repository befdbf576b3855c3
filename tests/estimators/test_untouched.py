"""Nothing of the caller's is changed: module, random states, arrays."""

import random

import numpy as np
import pytest
import sklearn
import torch

from sknfk import GradientFeatureClassifier, NFKernel, NFKTransformer
from sknfk._torch import _PRECISION_SWITCHES
from sknfk.gradients import VmapEngine

from ..cases import convnet, rows

X = rows(30, 1, 8, 8)


def snapshot(model):
    """Everything of a module that a fit could leave changed."""
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "training": [module.training for module in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "identities": [id(p) for p in model.parameters()],
        "hooks": [[list(getattr(m, name)) for name in vars(m) if name.endswith("_hooks")] for m in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
    }


def assert_untouched(before, after):
    assert all(torch.equal(value, after["state"][name]) for name, value in before["state"].items())
    for a, b in zip(before["gradients"], after["gradients"], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    for name in ("training", "requires_grad", "identities", "hooks", "attributes"):
        assert before[name] == after[name], name


@pytest.fixture
def model():
    """A module in a state of its own: training mode, mixed flags, gradients, a hook."""
    model = convnet().train()
    model[3].eval()
    model[0].weight.requires_grad_(False)
    model[5].weight.grad = torch.ones_like(model[5].weight)
    model[2].register_forward_hook(count_calls)
    return model


def count_calls(module, inputs, output):
    return None


@pytest.mark.parametrize("make", [lambda m: NFKTransformer(m, 4), lambda m: NFKernel(m)])
def test_fit_and_transform_leave_the_module_as_it_was(model, make):
    before = snapshot(model)
    estimator = make(model).fit(X)
    assert_untouched(before, snapshot(model))
    estimator.transform(X)
    assert_untouched(before, snapshot(model))


@pytest.mark.parametrize("make", [NFKTransformer, NFKernel, GradientFeatureClassifier])
def test_a_module_that_a_factory_hands_out_again_keeps_its_dtype(model, make):
    model.float()
    before = snapshot(model)
    fitted = make(lambda n_features: model, random_state=0).fit(X, np.arange(len(X)) % 2)
    assert_untouched(before, snapshot(model))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {p.dtype for p in fitted.module_.parameters()} == {torch.float64}


@pytest.mark.parametrize("solver", ["krylov", "paper", "arpack"])
def test_an_exception_in_the_middle_of_a_fit_leaves_the_module_and_the_estimator_as_they_were(
    model, monkeypatch, solver
):
    before = snapshot(model)
    nfk = NFKTransformer(model, 4, solver=solver, engine="vmap", batch_size=8, random_state=0).fit(X)
    fitted = dict(vars(nfk))
    form, calls = VmapEngine.__call__, []

    def failing(self, x):
        calls.append(1)
        if len(calls) > 7:
            raise KeyboardInterrupt
        return form(self, x)

    monkeypatch.setattr(VmapEngine, "__call__", failing)
    with pytest.raises(KeyboardInterrupt):
        nfk.fit(X)
    assert_untouched(before, snapshot(model))
    assert vars(nfk).keys() == fitted.keys()
    assert nfk.components_ is fitted["components_"] and nfk.module_ is fitted["module_"]


def states():
    return random.getstate(), torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002


@pytest.mark.parametrize("model_option", ["module", "none", "factory"])
def test_global_generators_are_left_alone(model, model_option):
    def factory(n_features):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))

    option = {"module": model, "none": None, "factory": factory}[model_option]
    before = states()
    NFKTransformer(option, 4, random_state=0).fit_transform(X)
    after = states()
    assert before[0] == after[0]
    assert torch.equal(before[1], after[1])
    assert np.array_equal(before[2], after[2])


def test_without_a_random_state_numpys_generator_is_used_as_in_scikit_learn(model):
    np.random.seed(5)  # noqa: NPY002
    first = NFKTransformer(model, 4).fit(X).components_
    np.random.seed(5)  # noqa: NPY002
    assert np.array_equal(NFKTransformer(model, 4).fit(X).components_, first)


@pytest.fixture
def set_precision(request):
    """Set float32 precision by one of torch's two interfaces, and put it back."""
    if request.param == "one for all":
        torch.set_float32_matmul_precision("medium")
    else:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.cudnn.conv.fp32_precision = "tf32"
    yield request.param
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.backends.cudnn.conv.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")


def precisions():
    return [switch.fp32_precision for switch in _PRECISION_SWITCHES]


@pytest.mark.parametrize("set_precision", ["one for all", "one by one"], indirect=True)
def test_settings_of_torch_are_put_back(model, set_precision):
    before = precisions()
    assert set(before) & {"tf32", "bf16"}
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        NFKTransformer(model, 4, random_state=0).fit_transform(X)
        assert not torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
    assert precisions() == before
    if set_precision == "one for all":
        assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.parametrize("set_precision", ["one for all", "one by one"], indirect=True)
def test_reduced_precision_outside_does_not_reach_the_products(model, set_precision):
    model = model.float()
    found = NFKTransformer(model, 4, random_state=0).fit_transform(X)
    for switch in _PRECISION_SWITCHES:
        switch.fp32_precision = "ieee"
    assert np.array_equal(found, NFKTransformer(model, 4, random_state=0).fit_transform(X))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_gradient_mode_does_not_matter(model, context):
    expected = NFKTransformer(model, 4, random_state=0).fit_transform(X)
    with context():
        assert np.array_equal(NFKTransformer(model, 4, random_state=0).fit_transform(X), expected)


class DoublesInPlace(torch.nn.Linear):
    """Works on its input in place, as an inplace activation in front would."""

    def forward(self, x):
        return super().forward(x.mul_(2))


@pytest.mark.parametrize("engine", ["vmap", "loop", "jvp"])
@pytest.mark.parametrize("dispatch", [False, True])
def test_a_first_layer_that_works_in_place_changes_neither_the_rows_nor_the_result(engine, dispatch):
    flat = rows(30)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = DoublesInPlace(5, 3).double()
    twin = torch.nn.Linear(5, 3).double()
    twin.load_state_dict(layer.state_dict())
    given = torch.from_numpy(flat.copy()) if dispatch else flat.copy()
    with sklearn.config_context(array_api_dispatch=dispatch):
        found = np.asarray(NFKTransformer(layer, 3, engine=engine, random_state=0).fit_transform(given))
    assert np.array_equal(np.asarray(given), flat)
    np.testing.assert_allclose(found, NFKTransformer(twin, 3, random_state=0).fit_transform(2 * flat), atol=1e-8)


def test_rows_are_not_written_to(model):
    mine = X.copy()
    mine.setflags(write=False)
    NFKTransformer(model, 4, random_state=0).fit_transform(mine)
    assert np.array_equal(mine, X)
