"""Promise 1 of the design on the real LeNet-5, by live autograd; the same in float64 on a small model."""

import numpy as np
import pytest
from sklearn.base import clone

from sknfk import NFKTransformer
from sknfk.solvers import SOLVERS

from ..cases import FLOAT32_RTOL, FLOAT64_RTOL, convnet, rows
from ..zoo_data import requires_zoo
from .lenet import lenet5, mnist_images
from .measures import linear_kernel, relative

N, K = 200, 16
HALF = K // 2
# Promise 1: kernels of embeddings in float32.
KERNEL_FLOAT32_RTOL = 1e-4
# The solver saw gradients in bfloat16, `transform` sees them whole: 2^-9 of each, averaged over many.
ROUNDED_RTOL = 1e-4


@pytest.fixture(scope="module")
def X():
    return mnist_images(N)


@pytest.fixture(scope="module")
def nfk(X):
    """The fit that all others are compared with: the default solver, krylov, in batches of 64."""
    return lenet_nfk(batch_size=64).fit(X)


@pytest.fixture(scope="module")
def embedding(nfk, X):
    return nfk.transform(X)


def lenet_nfk(**options):
    return NFKTransformer(lenet5(), K, random_state=0, **options)


def assert_same_embedding(found, expected):
    assert relative(found, expected) < FLOAT32_RTOL
    assert relative(linear_kernel(found), linear_kernel(expected)) < KERNEL_FLOAT32_RTOL


# ---------------------------------------------------------------- LeNet-5, float32


@pytest.fixture(scope="module")
def spectrum(X):
    """Eigenvalues and eigenvectors of the exact kernel of X in float64, descending; nothing rounded."""
    nfk = lenet_nfk(batch_size=64, gradient_cache=None).fit(X)
    eigenvalues, U = np.linalg.eigh(linear_kernel(nfk.fisher_vectors(X)))
    return eigenvalues[::-1], U[:, ::-1]


@requires_zoo
@pytest.mark.parametrize("solver", [solver for solver in SOLVERS if not solver.startswith("sketch")])
def test_solvers_agree_on_the_leading_half_and_lose_no_more_than_their_tolerance(solver, spectrum, X, record_property):
    eigenvalues, U = spectrum
    # Products of the paper's solver are those of the others: vmap, not one JVP for each column.
    # With tol=1e-3 "krylov" stops after 3 sweeps, where the kernel of the leading half is right to 3e-4.
    nfk = lenet_nfk(solver=solver, engine="vmap", batch_size=64, gradient_cache=None, tol=1e-4)
    Z = nfk.fit_transform(X)
    best_half = (U[:, :HALF] * eigenvalues[:HALF]) @ U[:, :HALF].T
    error = np.abs(nfk.singular_values_[:HALF].astype(float) ** 2 / eigenvalues[:HALF] - 1).max()
    error_of_kernel = relative(linear_kernel(Z[:, :HALF]), best_half)
    lost = 1 - np.square(Z, dtype=np.float64).sum() / eigenvalues[:K].sum()
    for name, value in [("eigenvalues", error), ("kernel", error_of_kernel), ("lost", lost)]:
        record_property(name, float(value))
    assert nfk.solver_ == solver
    assert error < FLOAT32_RTOL
    assert error_of_kernel < KERNEL_FLOAT32_RTOL
    assert lost < nfk.tol


@requires_zoo
def test_fit_transform_equals_transform(nfk, embedding, X):
    assert_same_embedding(clone(nfk).fit_transform(X), embedding)
    # The factorisation says the same of the fitted rows: Z^T Z = diag(singular_values_^2).
    Z = embedding.astype(np.float64)
    assert relative(Z.T @ Z, np.diag(nfk.singular_values_.astype(np.float64) ** 2)) < ROUNDED_RTOL
    unrounded = lenet_nfk(batch_size=64, gradient_cache=None).fit(X)
    Z = unrounded.transform(X).astype(np.float64)
    assert relative(Z.T @ Z, np.diag(unrounded.singular_values_.astype(np.float64) ** 2)) < FLOAT32_RTOL


@requires_zoo
@pytest.mark.parametrize("batch_size", [1, 7, N])
def test_batch_size_does_not_matter(batch_size, embedding, X):
    other = lenet_nfk(batch_size=batch_size).fit(X)
    assert other.batch_size_ == batch_size
    assert_same_embedding(other.transform(X), embedding)


@requires_zoo
def test_order_of_rows_does_not_matter(nfk, embedding, X):
    order = np.random.default_rng(0).permutation(N)
    assert_same_embedding(clone(nfk).fit(X[order]).transform(X), embedding)
    assert_same_embedding(nfk.transform(X[order]), embedding[order])


@requires_zoo
def test_rows_given_twice_give_the_embedding_of_rows_given_once(nfk, embedding, X):
    twice = clone(nfk).fit(np.concatenate([X, X]))
    assert_same_embedding(twice.transform(X), embedding)
    for name in ("components_", "mean_score_", "information_", "explained_variance_"):
        assert relative(getattr(twice, name), getattr(nfk, name)) < FLOAT32_RTOL, name
    assert relative(twice.singular_values_, 2**0.5 * nfk.singular_values_) < FLOAT32_RTOL
    assert twice.total_variance_ == pytest.approx(nfk.total_variance_, rel=FLOAT32_RTOL)


@requires_zoo
def test_two_fits_with_equal_random_state_are_bitwise_equal(nfk, X):
    first, second = (clone(nfk).fit(X) for _ in range(2))
    for name in ("components_", "singular_values_", "mean_score_", "information_", "scale_"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    assert first.error_estimate_ == second.error_estimate_
    assert np.array_equal(first.transform(X), second.transform(X))


# ---------------------------------------------------------------- a small model, float64

OWN_SOLVERS = ("krylov", "subspace", "exact", "sketch", "sketch-refined")
N_SMALL = 80


def small_nfk(solver, **options):
    model = convnet().float()
    return NFKTransformer(model, 6, dtype="float64", solver=solver, sketch_width=32, random_state=0, **options)


def small_rows():
    return rows(N_SMALL, 1, 8, 8)


@pytest.fixture(scope="module", params=OWN_SOLVERS)
def small(request):
    """A solver, and its embedding in batches of 64."""
    nfk = small_nfk(request.param, batch_size=64).fit(small_rows())
    Z = nfk.transform(small_rows())
    assert Z.dtype == np.float64
    return request.param, nfk, Z


def test_in_float64_fit_transform_equals_transform(small):
    _, nfk, Z = small
    assert relative(clone(nfk).fit_transform(small_rows()), Z) < FLOAT64_RTOL
    assert relative(Z.T @ Z, np.diag(nfk.singular_values_**2)) < FLOAT64_RTOL


@pytest.mark.parametrize("batch_size", [1, 7, N_SMALL])
def test_in_float64_batch_size_does_not_matter(small, batch_size):
    solver, _, Z = small
    found = small_nfk(solver, batch_size=batch_size).fit_transform(small_rows())
    assert relative(found, Z) < FLOAT64_RTOL
    assert relative(linear_kernel(found), linear_kernel(Z)) < FLOAT64_RTOL


def test_in_float64_order_of_rows_does_not_matter(small):
    _, nfk, Z = small
    X, order = small_rows(), np.random.default_rng(0).permutation(N_SMALL)
    assert relative(clone(nfk).fit(X[order]).transform(X), Z) < FLOAT64_RTOL
    assert relative(nfk.transform(X[order]), Z[order]) < FLOAT64_RTOL


def test_in_float64_rows_given_twice_give_the_embedding_of_rows_given_once(small):
    _, nfk, Z = small
    X = small_rows()
    twice = clone(nfk).fit(np.concatenate([X, X]))
    assert relative(twice.transform(X), Z) < FLOAT64_RTOL
    assert relative(twice.singular_values_, 2**0.5 * nfk.singular_values_) < FLOAT64_RTOL


def test_in_float64_two_fits_with_equal_random_state_are_bitwise_equal(small):
    _, nfk, _ = small
    first, second = (clone(nfk).fit(small_rows()) for _ in range(2))
    assert np.array_equal(first.components_, second.components_)
    assert np.array_equal(first.transform(small_rows()), second.transform(small_rows()))
