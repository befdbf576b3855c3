"""Products of the operator against the materialised matrix, from both sides."""

import numpy as np
import pytest
import torch

from sknfk.batches import Batches
from sknfk.densities import Classifier
from sknfk.fisher import (
    FisherVectorOperator,
    FisherVectors,
    estimate_moments,
    estimate_statistics,
    gram_matrix,
)
from sknfk.gradients import LogDensityModel, ParameterSpace, make_engine

from ..cases import FLOAT64_RTOL, convnet, rows

N_ROWS, N_COLUMNS = 23, 4


class CountingBatches(Batches):
    """Counts how often each batch is visited."""

    def after(self, n_batches):
        for x in super().after(n_batches):
            VISITS.append(len(x))
            yield x


VISITS: list[int] = []


@pytest.fixture(params=["vmap", "loop", "jvp"])
def vectors(request):
    model, X = convnet(), rows(N_ROWS, 1, 8, 8)
    space = ParameterSpace.of(model)
    engine = make_engine(request.param, LogDensityModel(model, Classifier(), space))
    batches = CountingBatches(X, 6, torch.device("cpu"), torch.float64, (1, 8, 8))
    statistics = estimate_statistics(estimate_moments(engine, batches, space))
    VISITS.clear()
    return FisherVectors(engine, batches, statistics.mean_score, statistics.scale("diag", 1e-3), torch.float64)


@pytest.fixture
def V(vectors):
    """The matrix by its definition: (J - 1 z^T) diag(d)."""
    J = torch.cat([block.rows() for block in vectors.blocks()])
    VISITS.clear()
    return (J - vectors.mean_score) * vectors.scale


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert float((found - expected).norm()) <= FLOAT64_RTOL * float(expected.norm())


def test_products_from_both_sides_equal_those_of_the_formed_matrix(vectors, V):
    W, Y = random(V.shape[1], N_COLUMNS), random(V.shape[0], N_COLUMNS)
    assert_same(vectors.matmat(W), V @ W)
    assert_same(vectors.rmatmat(Y), V.T @ Y)
    assert_same(vectors.rows(), V)
    assert_same(vectors.squared_norms(), V.square().sum(1))
    assert_same(vectors.gram(), V @ V.T)


def test_a_sweep_gives_both_products_of_its_result(vectors, V):
    W = random(V.shape[1], N_COLUMNS)
    gram, product = vectors.sweep(W)
    assert gram.dtype == torch.float64
    assert_same(gram, W.T @ V.T @ V @ W)
    assert_same(product, V.T @ V @ W)


def test_the_two_products_are_each_others_adjoint(vectors, V):
    W, Y = random(V.shape[1], N_COLUMNS), random(V.shape[0], N_COLUMNS)
    left, right = (Y * vectors.matmat(W)).sum(), (vectors.rmatmat(Y) * W).sum()
    torch.testing.assert_close(left, right, rtol=FLOAT64_RTOL, atol=0)


@pytest.mark.parametrize("product", ["matmat", "rmatmat", "sweep", "rows", "squared_norms"])
def test_one_product_is_one_visit_to_each_batch(vectors, product):
    arguments = {"matmat": vectors.shape[1], "rmatmat": N_ROWS, "sweep": vectors.shape[1]}
    given = [random(arguments[product], N_COLUMNS)] if product in arguments else []
    VISITS.clear()
    getattr(vectors, product)(*given)
    assert VISITS == [6, 6, 6, 5]


def test_scipy_face_gives_all_four_products_each_in_one_pass(vectors, V):
    face = FisherVectorOperator(vectors)
    w, y = random(V.shape[1]).numpy(), random(V.shape[0]).numpy()
    W, Y = random(V.shape[1], N_COLUMNS).numpy(), random(V.shape[0], N_COLUMNS).numpy()
    for call, expected in [
        (lambda: face.matvec(w), V.numpy() @ w),
        (lambda: face.rmatvec(y), V.numpy().T @ y),
        (lambda: face.matmat(W), V.numpy() @ W),
        (lambda: face.rmatmat(Y), V.numpy().T @ Y),
        (lambda: face @ W, V.numpy() @ W),
        (lambda: face.H @ Y, V.numpy().T @ Y),
    ]:
        VISITS.clear()
        np.testing.assert_allclose(call(), expected, rtol=1e-8, atol=1e-8)
        assert VISITS == [6, 6, 6, 5]
    assert face.torch is vectors


@pytest.mark.parametrize("max_bytes", [1, 2**13, 2**28])
def test_gram_matrix_by_blocks_is_that_of_the_formed_matrix(vectors, V, max_bytes):
    kernel = gram_matrix(vectors, max_bytes=max_bytes)
    assert_same(kernel, V @ V.T)
    assert torch.equal(kernel, kernel.T)
    part = vectors.slice(0, 9)
    assert_same(gram_matrix(part, vectors, max_bytes=max_bytes), V[:9] @ V.T)


def test_slices_are_rows_of_the_matrix(vectors, V):
    assert_same(vectors.slice(5, 17).rows(), V[5:17])
