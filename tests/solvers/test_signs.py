"""Sparse signs against the matrix that they stand for."""

import numpy as np
import pytest
import torch

from sknfk.solvers import MatrixOperator, SignedSums, SparseSigns

from ..cases import FLOAT64_RTOL

P, W = 1000, 64


def materialised(signs):
    """S as a dense matrix, by its definition."""
    rows = torch.arange(signs.n_parameters)
    rotations = torch.tensor(signs.rotations())
    columns = (rows + rotations[rows // signs.width]) % signs.width
    S = torch.zeros(signs.n_parameters, signs.width, dtype=torch.float64)
    S[rows, columns] = signs.signed(torch.ones(signs.n_parameters, dtype=torch.float64))
    return S


def gaussian(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
def test_each_parameter_has_one_sign_and_signs_and_columns_are_balanced(seed):
    signs = SparseSigns(P, W, seed)
    S = materialised(signs)
    assert bool((S.abs().sum(1) == 1).all())
    assert abs(float(S.sum())) < 5 * P**0.5
    assert int(S.abs().sum(0).max()) <= -(-P // W)
    assert len(set(signs.rotations())) > 1


def test_signs_are_those_of_the_seed_and_do_not_depend_on_what_follows():
    S = materialised(SparseSigns(P, W, 3))
    assert torch.equal(materialised(SparseSigns(P, W, 3)), S)
    assert torch.equal(materialised(SparseSigns(10 * P, W, 3))[:P], S)
    assert not torch.equal(materialised(SparseSigns(P, W, 4)), S)


def test_signs_are_the_same_on_every_machine():
    signs = SparseSigns(100, 16, 7)
    bits = "".join("+" if sign > 0 else "-" for sign in signs.signed(torch.ones(100))[:12].tolist())
    assert (bits, signs.rotations()) == ("+-+--+--++++", [13, 6, 7, 4, 8, 6, 14])


@pytest.mark.parametrize("cuts", [[P], [1, P - 1], [W, 3 * W, P - 4 * W], [W - 1, 2, 500, P - W - 501]])
def test_sums_are_the_product_with_the_materialised_matrix_however_columns_are_cut(cuts):
    signs, rows, scale = SparseSigns(P, W, 0), gaussian(5, P), gaussian(P, seed=1).abs()
    starts = np.cumsum([0, *cuts[:-1]]).tolist()
    found = SignedSums(signs, scale).of(zip(starts, rows.split(cuts, dim=1), strict=True))
    assert relative(found, (rows * scale) @ materialised(signs)) < FLOAT64_RTOL


def test_columns_that_no_slice_covers_are_zero():
    signs, rows = SparseSigns(P, W, 0), gaussian(5, P)
    rows[:, :100] = rows[:, 300:] = 0
    found = SignedSums(signs, torch.ones(P, dtype=torch.float64)).of([(100, rows[:, 100:300])])
    assert relative(found, rows @ materialised(signs)) < FLOAT64_RTOL


@pytest.mark.parametrize("width", [P, P + 1])
def test_as_many_columns_as_parameters_lose_nothing(width):
    signs, matrix = SparseSigns(P, width, 0), gaussian(5, P)
    assert signs.is_identity
    assert torch.equal(MatrixOperator(matrix).sketch(signs)[:, :P], matrix)


def test_kernels_of_sketches_are_right_on_average_with_no_more_than_the_error_stated():
    # Rows as those of a layer: outer products, whose large entries stand in a regular pattern.
    g, a = gaussian(6, 20).abs(), gaussian(6, 50, seed=1).abs() * torch.logspace(0, -2, 50)
    V = (g[:, :, None] * a[:, None, :]).flatten(1)
    kernel, n_seeds = V @ V.T, 400
    sketches = [V @ materialised(SparseSigns(P, W, seed)) for seed in range(n_seeds)]
    errors = torch.stack([Z @ Z.T - kernel for Z in sketches])
    bound = 2 * float(V.square().sum()) ** 2 / W
    squared = float(errors.square().sum((1, 2)).mean())
    assert squared < 1.1 * bound
    assert float(errors.mean(0).norm()) < 3 * (squared / n_seeds) ** 0.5
