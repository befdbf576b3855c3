"""Fits that keep their gradients in bfloat16 against fits that compute them at every pass."""

import os
import tempfile

import numpy as np
import pytest
import torch
from torch import nn

from sknfk import NFKTransformer
from sknfk.fisher import GradientCache

from ..cases import FLOAT32_RTOL, FLOAT64_RTOL, MODELS, convnet, mlp, rows
from ..proofs.lenet import lenet5, mnist_images
from ..zoo_data import requires_zoo

# What rounding gradients to bfloat16 may move a trained network's kernel by: promise 1 of the design.
KERNEL_RTOL = 1e-4
# The same for small models on noise: no gap in the spectrum after the last component, so 2^-9 of a
# gradient turns it by about as much towards the next.
NO_GAP_RTOL = 2e-3
# Share of the trace that is lost, of second order in the rounding: (2^-9)^2 = 4e-6.
TRACE_ATOL = 1e-5


def relative(found, expected):
    return float(np.linalg.norm(found.astype(np.float64) - expected) / np.linalg.norm(expected.astype(np.float64)))


def kernel(Z):
    Z = Z.astype(np.float64)
    return Z @ Z.T


def images(n_rows, seed=0):
    return rows(n_rows, 1, 8, 8, seed=seed).astype(np.float32)


CACHES = (None, "device")


def krylov(model, n_components=6, **options):
    return NFKTransformer(model, n_components, **{"solver": "krylov", "random_state": 0, **options})


@pytest.fixture
def made(monkeypatch):
    """Where caches are made, in their order."""
    places, start = [], GradientCache.__init__

    def noting(self, engine, batches, n_parameters, dtype, where="device", **options):
        places.append(where)
        start(self, engine, batches, n_parameters, dtype, where, **options)

    monkeypatch.setattr(GradientCache, "__init__", noting)
    return places


PROBLEMS = {
    "convnet": lambda: (convnet().float(), images(300)),
    "mlp": lambda: (mlp().float(), rows(300).astype(np.float32)),
}


@requires_zoo
def test_a_cache_moves_the_kernel_of_a_trained_network_by_less_than_a_ten_thousandth():
    model, X = lenet5(), mnist_images(300)
    plain, cached = (krylov(model, 16, tol=1e-6, gradient_cache=c).fit(X) for c in CACHES)
    assert 0 < relative(kernel(cached.transform(X)), kernel(plain.transform(X))) < KERNEL_RTOL
    assert relative(cached.singular_values_, plain.singular_values_) < KERNEL_RTOL


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("solver", ["krylov", "subspace", "arpack", "exact"])
def test_a_cache_changes_a_fit_by_no_more_than_rounding(name, solver):
    model, X = PROBLEMS[name]()
    plain, cached = (krylov(model, solver=solver, tol=1e-6, max_sweeps=30, gradient_cache=c).fit(X) for c in CACHES)
    assert 0 < relative(kernel(cached.transform(X)), kernel(plain.transform(X))) < NO_GAP_RTOL
    assert cached.score(X) > plain.score(X) - TRACE_ATOL
    assert relative(cached.singular_values_, plain.singular_values_) < KERNEL_RTOL
    assert cached.total_variance_ == pytest.approx(plain.total_variance_, rel=KERNEL_RTOL)


def test_transform_takes_gradients_that_are_not_rounded():
    X, X_new = images(120), images(9, seed=3)
    nfk = krylov(convnet().float(), gradient_cache="device").fit(X)
    for rows_of in (X, X_new):
        assert relative(nfk.transform(rows_of), nfk.fisher_vectors(rows_of) @ nfk.components_.T) < FLOAT32_RTOL
    V = krylov(convnet().float(), gradient_cache=None, fisher="identity", center=False).fit(X).fisher_vectors(X_new)
    cached = krylov(convnet().float(), gradient_cache="device", fisher="identity", center=False).fit(X)
    assert np.array_equal(cached.fisher_vectors(X_new), V)


@pytest.mark.parametrize(
    "options", [{}, {"tol": 1e-2}, {"center": False}, {"fisher": "identity"}, {"n_components": 0.8}]
)
def test_fit_transform_equals_transform_with_a_cache(options):
    X = images(120)
    nfk = krylov(convnet().float(), gradient_cache="device", **options)
    assert np.array_equal(nfk.fit_transform(X), nfk.transform(X))


@pytest.mark.parametrize("tol", [1e-3, 1e-2])
def test_two_cached_fits_are_bitwise_equal_wherever_the_cache_is(tmp_path, tol):
    X = images(120)
    found = [
        krylov(convnet().float(), tol=tol, gradient_cache=where).fit(X)
        for where in ("device", "device", "ram", str(tmp_path))
    ]
    assert all(np.array_equal(nfk.components_, found[0].components_) for nfk in found)


@pytest.mark.parametrize("batch_size", [7, 64])
def test_batch_size_does_not_matter_with_a_cache(batch_size):
    X = images(120)
    found, expected = (
        krylov(convnet().float(), gradient_cache="device", batch_size=b).fit_transform(X) for b in (batch_size, 120)
    )
    assert relative(kernel(found), kernel(expected)) < KERNEL_RTOL


def test_row_order_matters_no_more_with_a_cache_than_rounding():
    X, order = images(120), np.random.default_rng(0).permutation(120)
    found, expected = (
        krylov(convnet().float(), gradient_cache="device").fit(rows_of).transform(X) for rows_of in (X[order], X)
    )
    assert relative(kernel(found), kernel(expected)) < NO_GAP_RTOL


def test_statistics_of_other_rows_serve_with_a_cache():
    X, reference = images(120), images(50, seed=4)
    plain, cached = (
        krylov(convnet().float(), statistics=reference, tol=1e-7, max_sweeps=30, gradient_cache=c).fit(X)
        for c in CACHES
    )
    assert np.array_equal(cached.scale_, plain.scale_)  # of gradients that are not kept
    assert relative(kernel(cached.transform(X)), kernel(plain.transform(X))) < NO_GAP_RTOL


def test_products_in_bfloat16_are_for_tolerances_of_a_hundredth_and_keep_to_them():
    X = images(300)
    plain, rounded = (krylov(convnet().float(), tol=1e-2, gradient_cache=c).fit(X) for c in CACHES)
    assert relative(kernel(rounded.transform(X)), kernel(plain.transform(X))) < 1e-2
    assert rounded.score(X) > plain.score(X) - 1e-3


@pytest.fixture
def folder(tmp_path):
    """Where a cache goes, watched for what it leaves."""
    kept = tmp_path / "gradients"
    kept.mkdir()
    yield kept
    assert list(kept.iterdir()) == []


def test_a_file_of_gradients_is_gone_after_a_fit(folder, made):
    krylov(convnet().float(), gradient_cache=str(folder)).fit(images(60))
    assert len(made) == 1 and made[0].startswith(str(folder))
    assert not os.path.exists(made[0])


@pytest.mark.parametrize("fails_at", [3, 6])
def test_a_file_of_gradients_is_gone_after_a_fit_that_raises(folder, made, monkeypatch, fails_at):
    sizes, count, visits = [], [], GradientCache.visits

    def failing(self, first=0):
        for blocks in visits(self, first):
            count.append(1)
            if len(count) == fails_at:
                sizes.append(os.path.getsize(made[0]))
                raise KeyboardInterrupt
            yield blocks

    monkeypatch.setattr(GradientCache, "visits", failing)
    with pytest.raises(KeyboardInterrupt):
        krylov(convnet().float(), gradient_cache=str(folder), batch_size=16).fit(images(60))
    assert sizes[0] > 0  # it was there


def test_nothing_is_left_in_the_folder_of_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for where in ("device", "ram"):
        krylov(convnet().float(), gradient_cache=where).fit(images(60))
    assert list(tmp_path.iterdir()) == []


def test_without_a_cache_none_is_made(made):
    for solver in ("krylov", "subspace", "exact", "paper"):
        krylov(convnet().float(), gradient_cache=None, solver=solver).fit(images(40))
    assert made == []


AUTO = {
    "a convolution in float32": ({}, lambda: (convnet().float(), images(60)), ["device"]),
    "float64": ({}, lambda: (convnet(), images(60)), []),
    "float64 asked for": ({"dtype": "float64"}, lambda: (convnet().float(), images(60)), []),
    "a small tolerance": ({"tol": 9e-7, "max_sweeps": 30}, lambda: (convnet().float(), images(60)), []),
    "the Gram matrix": ({"solver": "exact"}, lambda: (convnet().float(), images(60)), []),
    "forward mode": ({"solver": "paper"}, lambda: (convnet().float(), images(60)), []),
    "weights used once": ({}, lambda: (mlp().float(), rows(60).astype(np.float32)), []),
}


@pytest.mark.parametrize("name", AUTO)
def test_auto_keeps_gradients_where_reading_them_pays(name, made):
    options, problem, expected = AUTO[name]
    model, X = problem()
    krylov(model, 4, **options).fit(X)
    assert made == expected


def test_a_cached_fit_computes_each_gradient_once(visited):
    X = images(90)
    nfk = krylov(convnet().float(), gradient_cache="device", batch_size=64).fit(X)
    assert nfk.n_sweeps_ > 1
    assert visited == [64, 26]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("solver", ["krylov", "exact"])
def test_every_model_and_engine_fills_a_cache(name, solver):
    model, X = MODELS[name]()
    X = np.concatenate([X, X[::-1], X])
    plain, cached = (
        krylov(model.float(), 3, solver=solver, tol=1e-6, max_sweeps=30, gradient_cache=c, dtype="float32").fit(X)
        for c in CACHES
    )
    # Whitening by 1e-3 damping enlarges weak parameters; few rows average little rounding out.
    assert relative(kernel(cached.transform(X)), kernel(plain.transform(X))) < 1e-2


def test_a_float64_fit_may_be_cached_by_name_and_is_then_rounded():
    X = images(120).astype(np.float64)
    plain, cached = (krylov(convnet(), tol=1e-10, max_sweeps=30, gradient_cache=c).fit(X) for c in CACHES)
    error = relative(kernel(cached.transform(X)), kernel(plain.transform(X)))
    assert FLOAT64_RTOL < error < NO_GAP_RTOL


@pytest.mark.parametrize("method", ["fit", "explain"])
def test_a_folder_that_does_not_exist_is_refused_before_any_work(method, tmp_path):
    called = []

    def density(model, x):
        called.append(1)
        return model(x).logsumexp(1)

    missing = str(tmp_path / "no" / "such" / "folder")
    nfk = krylov(convnet().float(), gradient_cache=missing, density=density)
    with pytest.raises(
        ValueError, match=r"`gradient_cache` must be 'auto', 'device'.*Got '.*folder'; create the folder"
    ):
        getattr(nfk, method)(images(60))
    assert called == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="a folder that exists"):
        nfk.set_params(gradient_cache=str(tmp_path / "file")).fit(images(60))


@pytest.mark.parametrize("options", [{"engine": "jvp"}, {"solver": "paper"}])
def test_a_cache_of_gradients_that_are_never_formed_is_refused(options):
    with pytest.raises(ValueError, match=r"`gradient_cache` must be 'auto' or None with engine='jvp'.*Got 'device'"):
        krylov(convnet().float(), gradient_cache="device", **options).fit(images(60))
    krylov(convnet().float(), 3, solver="paper", engine="vmap", gradient_cache="device").fit(images(60))


@pytest.mark.parametrize("engine", ["layerwise", "vmap", "loop"])
def test_every_engine_that_forms_gradients_fills_the_same_cache(engine):
    X = images(60)
    found, expected = (
        krylov(convnet().float(), gradient_cache="device", engine=e, tol=1e-7, max_sweeps=30).fit(X)
        for e in (engine, "layerwise")
    )
    assert found.engine_ == engine
    assert relative(kernel(found.transform(X)), kernel(expected.transform(X))) < KERNEL_RTOL


def test_a_cached_fit_leaves_no_gradients_in_the_estimator():
    nfk = krylov(convnet().float(), gradient_cache="device").fit(images(60))
    assert not any(isinstance(value, GradientCache) for value in vars(nfk).values())
    assert not any(isinstance(v, torch.Tensor) and v.dtype == torch.bfloat16 for v in vars(nfk).values())
    assert isinstance(nfk.module_, nn.Module)
