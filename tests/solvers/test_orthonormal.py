import numpy as np
import pytest
import torch
from sklearn.utils.extmath import svd_flip

from sknfk._torch import exact_arithmetic
from sknfk.solvers._orthonormal import (
    complete,
    descending_eigh,
    flip_signs,
    inner,
    inner_in_chunks,
    orthonormalise,
    random_block,
)

SEEDS = (0, 1, 2)
FLOAT64_ATOL = 1e-13  # some hundred roundings of numbers of size 1
FLOAT32_ATOL = 1e-6  # some ten roundings: norms are taken in float64


def gaussian(n_rows, n_columns, seed, dtype=torch.float64):
    return random_block(n_rows, n_columns, torch.Generator().manual_seed(seed), dtype, torch.device("cpu"))


def atol(dtype):
    return FLOAT64_ATOL if dtype == torch.float64 else FLOAT32_ATOL


@pytest.mark.parametrize("seed", SEEDS)
def test_inner_of_float32_in_chunks_is_the_float64_product(seed, monkeypatch):
    monkeypatch.setattr("sknfk.solvers._orthonormal.CHUNK_ENTRIES", 64)
    A, B = gaussian(101, 7, seed, torch.float32), gaussian(101, 5, seed + 1, torch.float32)
    torch.testing.assert_close(inner(A, B), A.double().T @ B.double(), rtol=0, atol=FLOAT64_ATOL)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", SEEDS)
def test_orthonormalise_keeps_ill_conditioned_columns_orthonormal_and_reproduces_them(seed, dtype):
    scales = torch.logspace(0, -4, 12, dtype=dtype)
    R = gaussian(200, 12, seed, dtype) * scales
    Q, B = orthonormalise(R)
    torch.testing.assert_close(inner(Q, Q), torch.eye(12, dtype=torch.float64), rtol=0, atol=atol(dtype))
    scale = float(torch.linalg.matrix_norm(R, ord=2))
    torch.testing.assert_close(Q.double() @ B, R.double(), rtol=0, atol=10 * atol(dtype) * scale)


@pytest.mark.parametrize("seed", SEEDS)
def test_orthonormalise_drops_directions_at_or_below_the_floor(seed):
    U = torch.linalg.qr(gaussian(50, 4, seed))[0]
    R = U * torch.tensor([1.0, 0.1, 1e-3, 1e-4], dtype=torch.float64)
    assert orthonormalise(R, floor=2e-3)[0].shape == (50, 2)
    assert orthonormalise(torch.zeros(50, 3), floor=0.0)[0].shape == (50, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_orthonormalise_finds_the_rank_of_repeated_columns(seed):
    R = gaussian(40, 3, seed)
    assert orthonormalise(torch.cat([R, R, R], dim=1))[0].shape == (40, 3)


@pytest.mark.parametrize("n_columns", [0, 3])
def test_complete_reaches_a_square_orthonormal_matrix_and_keeps_the_first_columns(n_columns):
    Q = torch.linalg.qr(gaussian(12, n_columns, 0))[0]
    full = complete(Q, 12, torch.Generator().manual_seed(1))
    assert torch.equal(full[:, :n_columns], Q)
    torch.testing.assert_close(full.T @ full, torch.eye(12, dtype=torch.float64), rtol=0, atol=FLOAT64_ATOL)


def test_eigenvalues_come_in_descending_order_and_never_negative():
    values, vectors = descending_eigh(torch.diag(torch.tensor([1.0, 3.0, -1e-18, 2.0], dtype=torch.float64)))
    assert values.tolist() == [3.0, 2.0, 1.0, 0.0]
    assert vectors[:, 0].abs().tolist() == [0.0, 1.0, 0.0, 0.0]


def test_products_that_are_not_finite_are_refused_in_words():
    with pytest.raises(ValueError, match="must be finite. Got NaN or infinity; look for examples"):
        descending_eigh(torch.tensor([[float("nan")]], dtype=torch.float64))


@pytest.mark.parametrize("seed", SEEDS)
def test_signs_are_those_of_scikit_learn(seed):
    components = gaussian(6, 9, seed)
    expected = svd_flip(np.zeros((3, 6)), components.numpy(), u_based_decision=False)[1]
    np.testing.assert_array_equal(flip_signs(components).numpy(), expected)


def test_random_blocks_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    gaussian(5, 5, 0)
    assert torch.equal(torch.get_rng_state(), before)


# A product in float32 whose chunks are summed in float64 was measured to be off by 1e-8 to 2.5e-8, a
# plain one by 2e-7 to 1.5e-5 (MKL and oneDNN): roundings add up over all rows.
CHUNKED_RTOL = 1e-7


@pytest.mark.parametrize("seed", SEEDS)
def test_products_summed_in_chunks_keep_digits_that_a_float32_product_loses(seed):
    A = gaussian(100_000, 40, seed, torch.float32)
    exact = A.double().T @ A.double()

    def error(found):
        return float((found.double() - exact).norm() / exact.norm())

    with exact_arithmetic(A.device):
        chunked, plain = inner_in_chunks(A, A), A.T @ A
    assert chunked.dtype == torch.float64
    assert error(chunked) < CHUNKED_RTOL < error(plain)
    assert error(inner(A, A)) < 1e-14


def test_products_of_float64_in_chunks_are_plain_ones():
    A, B = gaussian(5000, 3, 0), gaussian(5000, 4, 1)
    assert torch.equal(inner_in_chunks(A, B), A.T @ B)
