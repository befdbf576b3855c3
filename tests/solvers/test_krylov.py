"""What block Krylov keeps from sweep to sweep."""

import pytest
import torch

from sknfk.solvers import BlockKrylov, MatrixOperator
from sknfk.solvers._orthonormal import inner

from .spectra import matrix_with_spectrum, power_law

SEEDS = (0, 1, 2)
K, N_SWEEPS = 8, 6
# Some ten roundings of a number of size 1; norms are taken in float64.
ORTHONORMAL_ATOL = {torch.float32: 1e-6, torch.float64: 1e-13}
SPECTRA = {"flat": power_law(300, 0.0), "trained": power_law(300, 1.3), "steep": power_law(300, 4.0)}


def states(spectrum, dtype, seed, n_sweeps=N_SWEEPS):
    operator = MatrixOperator(matrix_with_spectrum(SPECTRA[spectrum], 320, 400, seed, dtype))
    solver = BlockKrylov(tol=0.0, max_sweeps=n_sweeps)
    return operator, list(solver.states(operator, K, torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spectrum", ["trained", "steep"])
def test_blocks_stay_orthonormal_to_each_other(spectrum, dtype, seed):
    last = states(spectrum, dtype, seed)[1][-1]
    basis = torch.cat(last.blocks, dim=1)
    assert last.n_sweeps == N_SWEEPS and basis.shape[1] > 4 * K
    gram = inner(basis, basis)
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=torch.float64), rtol=0, atol=ORTHONORMAL_ATOL[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flat_spectrum_ends_after_its_first_block_or_goes_on_with_orthonormal_ones(dtype):
    last = states("flat", dtype, 0)[1][-1]
    basis = torch.cat(last.blocks, dim=1)
    gram = inner(basis, basis)
    torch.testing.assert_close(gram, torch.eye(len(gram), dtype=torch.float64), rtol=0, atol=ORTHONORMAL_ATOL[dtype])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spectrum", ["trained", "steep"])
def test_a_state_holds_the_gram_matrix_of_its_residual(spectrum, dtype, seed):
    for state in states(spectrum, dtype, seed)[1]:
        expected = state.residual.double().T @ state.residual.double()
        assert float((state.residual_gram - expected).norm()) <= 1e-14 * float(expected.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spectrum", ["trained", "steep"])
def test_what_is_left_over_is_what_the_operator_takes_out_of_the_blocks(spectrum, dtype):
    operator, all_states = states(spectrum, dtype, 0)
    V = operator.matrix.double()
    eps = torch.finfo(dtype).eps
    for state in all_states:
        basis = torch.cat(state.blocks, dim=1).double()
        newest = state.blocks[-1].double()
        expected = V.T @ (V @ newest)
        expected -= basis @ (basis.T @ expected)
        assert float((state.residual.double() - expected).norm()) < 100 * eps
        # T is V^T V seen in the blocks; what it leaves out is rounding.
        assert float((state.projected - (V @ basis).T @ (V @ basis)).norm()) < 100 * eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spectrum", ["trained", "steep"])
def test_residual_norms_are_those_of_the_ritz_vectors(spectrum, dtype):
    operator, all_states = states(spectrum, dtype, 0, n_sweeps=3)
    V = operator.matrix.double()
    last = all_states[-1]
    ritz_vectors = torch.cat(last.blocks, dim=1).double() @ last.ritz_vectors
    expected = (V.T @ (V @ ritz_vectors) - ritz_vectors * last.ritz_values).norm(dim=0)
    torch.testing.assert_close(last.residual_norms, expected, rtol=1e-3, atol=100 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_resuming_from_a_state_is_bitwise_the_same(dtype):
    operator, all_states = states("trained", dtype, 0, n_sweeps=4)
    solver = BlockKrylov(tol=0.0, max_sweeps=4)
    resumed = list(solver.states(operator, K, torch.Generator(), resume=all_states[1]))
    assert len(resumed) == 2
    assert torch.equal(resumed[-1].residual, all_states[-1].residual)
    assert torch.equal(resumed[-1].projected, all_states[-1].projected)
