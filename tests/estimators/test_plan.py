"""What a fit decides before it starts, and that it keeps to the memory it was given."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from sknfk import NFKernel, NFKTransformer
from sknfk import _torch as sknfk_torch
from sknfk._torch import available_memory, total_memory
from sknfk.estimators import _factorise, _model_cost, _plan
from sknfk.estimators._model_cost import MAX_BATCH_SIZE, ModelCost, plan_batch_size

from ..cases import FLOAT32_RTOL, convnet, rows, seeded
from ..memory import peak_bytes

CPU = torch.device("cpu")
GIB = 2**30


def wide_convnet():
    """4,260 parameters, most of them used once."""

    def build():
        convolution = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
        return nn.Sequential(*convolution, nn.Linear(128, 30), nn.ReLU(), nn.Linear(30, 10))

    return seeded(build).float()


def images(n_rows):
    return rows(n_rows, 1, 8, 8).astype(np.float32)


class PlannedError(Exception):
    """Ends a fit where its work would start."""


@pytest.fixture
def plan_of(monkeypatch):
    """The plan of a fit that ends there."""
    made, plan_fit = [], _factorise.plan_fit

    def noting(*args):
        made.append(plan_fit(*args))
        raise PlannedError

    def plan_of(X, **options):
        monkeypatch.setattr(_factorise, "plan_fit", noting)
        with pytest.raises(PlannedError):
            krylov(**options).fit(X)
        monkeypatch.setattr(_factorise, "plan_fit", plan_fit)
        return made[-1]

    return plan_of


def krylov(model=None, n_components=6, **options):
    given = {"solver": "krylov", "random_state": 0, "engine": "layerwise"} | options
    return NFKTransformer(wide_convnet() if model is None else model, n_components, **given)


def test_the_plan_follows_total_memory_and_not_what_is_free(plan_of, monkeypatch):
    X = images(60)
    expected = plan_of(X, solver="auto")
    for free in (2 * expected.total_bytes, 10**15):
        monkeypatch.setattr(_plan, "available_memory", lambda device, free=free: free)
        assert plan_of(X, solver="auto") == expected
    monkeypatch.setattr(_model_cost, "total_memory", lambda device: 3 * GIB)
    assert plan_of(X, solver="auto").max_memory == 3 * GIB // 2 != expected.max_memory


def test_a_fit_does_what_is_planned(plan_of):
    X = images(60)
    for options in ({}, {"solver": "auto"}, {"max_memory": 16 * 2**20}):
        plan, nfk = plan_of(X, **options), krylov(**options).fit(X)
        assert (nfk.solver_, nfk.batch_size_) == (plan.solver, plan.batch_size)


def test_too_little_free_memory_is_refused_in_words_before_any_pass(monkeypatch, visited):
    monkeypatch.setattr(_plan, "available_memory", lambda device: 2**20)
    with pytest.raises(MemoryError, match=r"The fit works with .* MiB .*solver.*, and cpu has 1\.0 MiB free\. Lower"):
        krylov().fit(images(200))
    assert not visited


@pytest.mark.parametrize("solver", ["krylov", "subspace", "exact", "paper", "arpack"])
def test_too_little_memory_is_refused_with_what_is_needed_before_any_pass(plan_of, visited, solver):
    X = images(200)
    with pytest.raises(ValueError, match="`max_memory` must hold what the fit works with") as refusal:
        krylov(solver=solver, max_memory=2**18).fit(X)
    assert not visited
    message = str(refusal.value)
    assert "Got 0.2 MiB" in message and "or raise `max_memory`" in message
    for remedy in ("`n_components`", "`parameters`", "`batch_size`", "gradient_cache=None"):
        assert remedy in message
    needed = float(re.search(r"works with, ([\d.]+) MiB", message)[1])
    enough, too_little = (int((needed + extra) * 2**20) for extra in (0.1, -0.1))
    assert plan_of(X, solver=solver, max_memory=enough, batch_size=1).total_bytes <= enough
    with pytest.raises(ValueError, match="`max_memory` must hold"):
        krylov(solver=solver, max_memory=too_little, batch_size=1).fit(X)


def test_a_cache_asked_for_by_name_that_does_not_fit_is_refused(visited, plan_of):
    X = images(400)
    plan = plan_of(X, gradient_cache=None)
    with pytest.raises(ValueError, match=r"gradient cache 3\.\d MiB.*gradient_cache=None"):
        options = {"max_memory": plan.total_bytes + 2**20, "batch_size": plan.batch_size}
        krylov(gradient_cache="device", **options).fit(X)
    assert not visited


def test_a_cache_that_does_not_fit_is_left_out_by_auto_and_a_file_needs_no_memory(tmp_path, plan_of):
    X = images(600)
    options = {"model": convnet().float(), "batch_size": 32}
    whole = plan_of(X, **options)
    assert whole.cache == "device"
    options["max_memory"] = whole.total_bytes - 1000
    without = plan_of(X, **options)
    assert without.cache is None
    assert re.search(r"It would need 0\.2 MiB, and `max_memory` leaves 0\.2 MiB", without.cache_reason)
    filed = plan_of(X, **options, gradient_cache=str(tmp_path))
    assert filed.cache == str(tmp_path) and "gradient cache" not in filed.memory


def test_the_solver_falls_from_krylov_to_subspace_where_only_that_fits(plan_of):
    X = images(300)
    options = {"n_components": 30, "batch_size": 1, "gradient_cache": None}
    wide, narrow, chosen = (plan_of(X, solver=solver, **options) for solver in ("krylov", "subspace", "auto"))
    assert narrow.total_bytes < wide.total_bytes and chosen.solver == "krylov"
    assert plan_of(X, solver="auto", **options, max_memory=wide.total_bytes).solver == "krylov"
    for limit in (wide.total_bytes - 1, narrow.total_bytes):
        plan = plan_of(X, solver="auto", **options, max_memory=limit)
        assert plan.solver == "subspace" and "would not fit `max_memory`" in plan.solver_reason
    with pytest.raises(ValueError, match="`max_memory` must hold"):
        krylov(solver="auto", **options, max_memory=narrow.total_bytes - 1).fit(X)


def test_the_gram_matrix_gives_way_to_sweeps_where_it_does_not_fit(plan_of):
    X = images(400)
    options = {"n_components": 95, "solver": "auto", "batch_size": 1, "gradient_cache": None, "max_sweeps": 1}
    plan = plan_of(X, **options)
    assert plan.solver == "exact"
    plan = plan_of(X, **options, max_memory=plan.total_bytes - 1)
    assert plan.solver == "krylov" and "Gram matrix of 'exact' would not fit" in plan.solver_reason


def test_subspace_iteration_for_a_share_is_planned_for_the_most_components_it_may_take(plan_of):
    X, options = images(150), {"solver": "subspace", "gradient_cache": None}
    share = plan_of(X, n_components=0.5, max_components=140, **options)
    assert share.memory["solver"] == plan_of(X, n_components=140, **options).memory["solver"]


@pytest.mark.parametrize("n_parameters", [10, 10**5, 10**6, 10**7, 10**9])
def test_batch_size_is_a_power_of_two_that_shrinks_with_memory(n_parameters):
    for activation_bytes in (0, 10**4, 10**8):
        cost = ModelCost(0, activation_bytes)
        sizes = [plan_batch_size(cost, n_parameters, 4, 10**power) for power in range(3, 15)]
        assert all(size in {2**k for k in range(10)} for size in sizes)
        assert sizes == sorted(sizes)
        for size, power in zip(sizes, range(3, 15), strict=True):
            assert size == 1 or size * (4 * n_parameters + 2 * activation_bytes) <= 10**power / 4
    assert plan_batch_size(ModelCost(0, 0), 10, 4, 10**9) == MAX_BATCH_SIZE == 128


@pytest.mark.parametrize(
    ("name", "n_parameters", "activation_bytes", "expected"),
    [
        ("DCGAN", 661_248, 207_424, 512),
        ("an MLP", 269_322, 5_228, 512),
        ("LeNet-5", 61_706, 49_084, 128),
        ("ResNet-20", 269_722, 1_521_750, 128),
        ("a transformer", 818_241, 2_168_242, 128),
    ],
)
def test_batches_are_large_where_gradients_are_most_of_them_and_beyond_the_caches(
    name, n_parameters, activation_bytes, expected
):
    assert plan_batch_size(ModelCost(0, activation_bytes), n_parameters, 4, 12 * GIB) == expected


def test_batches_are_halved_before_the_solvers_blocks_or_the_cache_are_given_up(plan_of):
    X = images(400)
    options = {"n_components": 30, "solver": "auto", "model": convnet().float()}
    whole = plan_of(X, **options)
    assert (whole.solver, whole.cache, whole.batch_size, whole.is_reduced) == ("krylov", "device", 128, False)
    halved = plan_of(X, **options, batch_size=64)
    assert halved.total_bytes < whole.total_bytes
    plan = plan_of(X, **options, max_memory=halved.total_bytes)
    assert (plan.solver, plan.cache) == ("krylov", "device") and 16 <= plan.batch_size <= 64
    least = plan_of(X, **options, batch_size=16)
    reduced = plan_of(X, **options, max_memory=least.total_bytes - 1)
    assert reduced.is_reduced and reduced.total_bytes <= least.total_bytes - 1
    assert plan_batch_size(ModelCost(0, 0), 10**9, 4, 1) == 1


def test_a_fit_takes_the_batch_size_of_its_memory():
    X = images(200)
    small, large = (krylov(max_memory=limit, gradient_cache=None).fit(X) for limit in (9 * 2**20, 10 * GIB))
    assert 1 < small.batch_size_ < large.batch_size_ == 128
    found, expected = small.transform(X), large.transform(X)
    assert np.linalg.norm(found - expected) < FLOAT32_RTOL * np.linalg.norm(expected)
    assert NFKernel(wide_convnet(), max_memory=2**20).fit(X[:20]).batch_size_ < 10


def test_half_of_the_devices_memory_is_the_bound_unless_one_is_given(plan_of):
    X = images(60)
    assert plan_of(X).max_memory == total_memory(CPU) // 2 > 0
    assert plan_of(X, max_memory=2e9).max_memory == 2_000_000_000
    assert available_memory(CPU) <= total_memory(CPU)


@pytest.mark.parametrize(("text", "counts"), [("123456789\n", True), ("max\n", False), (None, False)])
def test_the_limit_of_a_control_group_counts(tmp_path, monkeypatch, text, counts):
    monkeypatch.setattr(sknfk_torch, "_GROUP_LIMITS", (str(tmp_path / "absent"), str(tmp_path / "memory.max")))
    monkeypatch.setattr(sknfk_torch, "_meminfo", lambda field: 64 * GIB)
    if text is not None:
        (tmp_path / "memory.max").write_text(text)
    expected = 123_456_789 if counts else 64 * GIB
    assert total_memory(CPU) == expected and available_memory(CPU) == expected


def test_batches_shrink_until_the_solver_has_its_memory_unless_their_size_is_given(plan_of):
    X, options = images(200), {"gradient_cache": None}
    least = plan_of(X, **options, batch_size=1).total_bytes
    for limit in (least, 2 * least, 4 * least):
        plan = plan_of(X, **options, max_memory=limit)
        assert plan.total_bytes <= limit
        assert plan.batch_size == 128 or plan_of(X, **options, batch_size=2 * plan.batch_size).total_bytes > limit / 2
    assert plan_of(X, **options, max_memory=least).batch_size == 1
    with pytest.raises(ValueError, match="`max_memory` must hold"):
        krylov(**options, max_memory=2 * least, batch_size=128).fit(X)


GROWING = [
    ({}, set()),
    ({"solver": "subspace"}, set()),
    ({"gradient_cache": "device"}, {"gradient cache"}),
    ({"solver": "exact"}, {"solver"}),
]


@pytest.mark.parametrize(("options", "growing"), GROWING)
def test_memory_of_the_plan_grows_with_the_examples_by_cache_and_gram_matrix_alone(plan_of, options, growing):
    few, many = (plan_of(images(n), **{"gradient_cache": None} | options).memory for n in (100, 10_000))
    assert {name for name in many if few[name] != many[name]} == growing


def test_no_memory_of_a_fit_grows_with_the_number_of_examples():
    few, many = (
        peak_bytes(lambda n=n: krylov(batch_size=16, gradient_cache=None, max_sweeps=3, tol=0.5).fit(images(n)))
        for n in (48, 192)
    )
    assert many <= 1.01 * few


FITS = {
    "krylov": {"gradient_cache": None},
    "subspace": {"solver": "subspace", "gradient_cache": None},
    "a cache": {"gradient_cache": "device"},
    "products in bfloat16": {"gradient_cache": "device", "tol": 1e-2},
    "exact": {"solver": "exact", "gradient_cache": None},
    "exact by factors": {"solver": "exact", "gradient_cache": None, "fisher": "factored"},
    "float64": {"gradient_cache": None, "dtype": "float64"},
}


@pytest.mark.parametrize("name", FITS)
def test_a_fit_allocates_no_more_than_its_plan(plan_of, name):
    X, options = images(64), {"n_components": 20, "batch_size": 16, **FITS[name]}
    plan, nfk = plan_of(X, **options), krylov(**options)
    assert 0.05 * plan.total_bytes < peak_bytes(lambda: nfk.fit(X)) <= plan.total_bytes
