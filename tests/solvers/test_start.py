"""Solvers that start from a block of the caller's."""

from dataclasses import replace

import pytest
import torch

from sknfk.solvers import SOLVERS, BlockKrylov, MatrixOperator, starts_from_a_block, truncated_svd

from .spectra import matrix_with_spectrum

SPECTRUM = torch.arange(1, 61, dtype=torch.float64) ** -0.65


def matrix(seed=0):
    return matrix_with_spectrum(SPECTRUM, 80, 120, seed=seed)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("solver", ["krylov", "subspace"])
def test_a_block_that_spans_the_answer_needs_two_sweeps_at_most(solver, seed):
    V = matrix(seed)
    leading = torch.linalg.svd(V)[2][:15].T
    found = truncated_svd(V, 5, solver=solver, tol=1e-10, start=leading)
    assert found.n_sweeps <= 2
    torch.testing.assert_close(found.singular_values, SPECTRUM[:5], rtol=1e-10, atol=0)


@pytest.mark.parametrize("columns", [0, 1, 3, 40])
@pytest.mark.parametrize("solver", ["krylov", "subspace"])
def test_a_narrow_empty_or_deficient_block_is_completed_at_random(solver, columns):
    V = matrix()
    start = V.T @ torch.ones(80, columns, dtype=torch.float64)  # one direction, however many columns
    found = truncated_svd(V, 5, solver=solver, tol=1e-12, max_sweeps=200, start=start)
    torch.testing.assert_close(found.singular_values, SPECTRUM[:5], rtol=1e-8, atol=0)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # it is stopped on purpose
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("solver", ["krylov", "subspace"])
def test_the_estimate_stays_above_the_true_error_from_a_good_start(solver, seed):
    V = matrix(seed)
    start = V.T @ (V @ torch.randn(120, 15, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    for max_sweeps in range(2, 7):
        found = truncated_svd(V, 5, solver=solver, tol=0.0, max_sweeps=max_sweeps, start=start)
        energy = (V @ found.components.T).square().sum()
        lost = 1 - float(energy / SPECTRUM[:5].square().sum())
        assert found.error_estimate >= lost - 1e-12


def test_solvers_that_take_no_block_say_so():
    for solver in SOLVERS:
        if not starts_from_a_block(solver):
            with pytest.raises(ValueError, match=f"`start` must be None for solver='{solver}'"):
                truncated_svd(matrix(), 5, solver=solver, start=torch.zeros(120, 3, dtype=torch.float64))


@pytest.mark.parametrize("start", [torch.zeros(119, 3), torch.zeros(120), torch.full((120, 2), torch.nan)])
def test_a_block_of_another_shape_or_not_finite_is_refused(start):
    with pytest.raises(ValueError, match=r"`start` must be finite and of shape \(120, any\)"):
        truncated_svd(MatrixOperator(matrix()), 5, solver="krylov", start=start.double())


def test_a_residual_that_is_rounding_in_the_old_blocks_ends_krylov_as_exact():
    V, solver = MatrixOperator(matrix()), BlockKrylov(tol=0.0, n_oversamples=5)
    generator = torch.Generator().manual_seed(0)
    state = next(solver.states(V, 5, generator))
    spurious = replace(state, residual=state.blocks[0] @ torch.eye(10, dtype=torch.float64))
    (last,) = solver.states(V, 5, generator, resume=spurious)
    assert last.converged and last.estimates == (0.0,) and V.n_visits == 1


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exactly_low_rank_ends_as_exact_whatever_the_block(dtype, seed):
    V = matrix_with_spectrum(SPECTRUM[:12], 80, 120, seed=seed, dtype=dtype)
    for block in (3, 12, 40):
        generator = torch.Generator().manual_seed(seed)
        found = BlockKrylov(tol=0.0, max_sweeps=60, block=block)(MatrixOperator(V), 12, generator)
        assert found.converged and found.error_estimate == 0
        # Weak directions in float32 carry the rounding of strong ones, some 1e-7 of theta_1.
        tolerance = 1e-9 if dtype == torch.float64 else 1e-4
        torch.testing.assert_close(found.singular_values, SPECTRUM[:12], rtol=tolerance, atol=0)
