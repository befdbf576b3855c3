"""Whatever is passed to a public function: a result that is finite, or one clear error."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from sknfk import NFKernel, NFKTransformer, TakeComponents, semi_supervised_split
from sknfk.solvers import truncated_svd

from ..cases import mlp

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as hnp  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")
EXPECTED = (ValueError, TypeError)
QUICK = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)

dtypes = st.sampled_from(["float64", "float32", "float16", "int64", "int32", "uint8", "bool", ">f8", "complex128"])
extreme = st.sampled_from([0.0, -0.0, 1.0, 1e-300, 1e-30, 1e30, 1e300, np.inf, -np.inf, np.nan, 255.0])
ordinary = st.floats(-5, 5, width=16)


@st.composite
def tables(draw, n_columns=None):
    """Rows of many kinds: any dtype and memory order, extreme values, constant columns, duplicates, no rows at all."""
    shape = (draw(st.integers(0, 12)), draw(st.integers(0, 7)) if n_columns is None else n_columns)
    values = draw(hnp.arrays(np.float64, shape, elements=draw(st.sampled_from([ordinary, extreme]))))
    if draw(st.booleans()) and len(values):
        values[:] = values[0]
    if draw(st.booleans()) and values.size:
        values[:, 0] = values[0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = values.astype(draw(dtypes))
    turned = {"C": np.ascontiguousarray, "F": np.asfortranarray, "strided": lambda v: np.repeat(v, 2, axis=0)[::2]}
    values = turned[draw(st.sampled_from(sorted(turned)))](values)
    if draw(st.booleans()):
        values.setflags(write=False)
    return values


def constant():
    model = mlp()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


MODELS = {
    "a classifier": lambda: mlp(),
    "one output": lambda: mlp(5, 1),
    "one class": lambda: nn.Sequential(mlp(5, 1)),
    "constant": constant,
    "none": lambda: None,
    "overflowing": lambda: nn.Sequential(mlp(), nn.Linear(3, 3).double(), nn.Hardtanh(-1e300, 1e300)),
}


def finite_or_refused(work):
    """Run; return the result, or None where it was refused in one clear sentence."""
    try:
        found = work()
    except EXPECTED as error:
        assert str(error).strip(), "an error says something"
        return None
    assert np.isfinite(np.asarray(found, dtype=np.float64)).all()
    return found


@pytest.mark.parametrize("name", MODELS)
@QUICK
@given(X=tables(n_columns=5), K=st.sampled_from([1, 2, 7, 100, 0.5]), solver=st.sampled_from(["auto", "krylov"]))
def test_a_transformer_gives_finite_numbers_or_says_why_not(name, X, K, solver):
    def work():
        nfk = NFKTransformer(MODELS[name](), K, solver=solver, random_state=0)
        embedded = nfk.fit_transform(X)
        assert embedded.shape == (len(X), nfk.n_components_)
        assert np.isfinite(nfk.error_estimate_)
        return embedded

    finite_or_refused(work)


@QUICK
@given(X=tables(n_columns=5), Y=tables())
def test_rows_of_another_kind_than_in_fit_are_refused_or_embedded(X, Y):
    rng = np.random.default_rng(0)
    nfk = NFKTransformer(mlp(), 3, random_state=0).fit(rng.normal(size=(20, 5)))
    for rows in (X, Y):
        for method in (nfk.transform, nfk.log_density, nfk.residual):
            finite_or_refused(lambda rows=rows, method=method: method(rows))


@QUICK
@given(X=tables(n_columns=5), normalize=st.sampled_from([None, "l2"]))
def test_a_kernel_gives_finite_numbers_or_says_why_not(X, normalize):
    def work():
        kernel = NFKernel(mlp(), normalize=normalize, random_state=0).fit(X)
        found = kernel.transform(X)
        assert found.shape == (len(X), len(X))
        return found

    finite_or_refused(work)


@QUICK
@given(X=tables(), k=st.one_of(st.none(), st.integers(-1, 9), st.floats(-1, 2)))
def test_take_components_takes_columns_or_says_why_not(X, k):
    finite_or_refused(lambda: TakeComponents(k).fit(X).transform(X))


@QUICK
@given(y=hnp.arrays(np.int64, st.integers(0, 12), elements=st.integers(-1, 3)), n_splits=st.integers(-1, 6))
def test_a_split_scores_labelled_rows_or_says_why_not(y, n_splits):
    def work():
        split = semi_supervised_split(y, n_splits, random_state=0)
        tested = np.concatenate([test for _, test in split.split()])
        assert (y[tested] >= 0).all()
        return tested

    finite_or_refused(work)


@QUICK
@given(X=tables(), K=st.one_of(st.integers(-1, 9), st.floats(-0.5, 1.5)))
def test_a_truncated_svd_is_finite_or_refused(X, K):
    def work():
        found = truncated_svd(np.ascontiguousarray(X), K)
        return np.concatenate([found.components.numpy().ravel(), found.singular_values.numpy()])

    finite_or_refused(work)


def test_two_threads_that_share_a_module_give_what_one_after_the_other_gives():
    from concurrent.futures import ThreadPoolExecutor

    model, rng = mlp(), np.random.default_rng(0)
    data = [rng.normal(size=(60, 5)) for _ in range(8)]

    def embedded(X):
        return NFKTransformer(model, 3, solver="krylov", random_state=0).fit_transform(X)

    expected = [embedded(X) for X in data]
    for _ in range(5):
        with ThreadPoolExecutor(2) as pool:
            for found, wanted in zip(pool.map(embedded, data), expected, strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)
