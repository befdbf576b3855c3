"""The error estimate of krylov and subspace: above the truth, and obeyed."""

import pytest
import torch

from sknfk.solvers import BlockKrylov, MatrixOperator, Share, SubspaceIteration

from .spectra import lost_energy, matrix_with_spectrum, power_law, spikes_on_floor

SEEDS = (0, 1, 2)
K = 16

# Directions below sqrt(eps) theta_1 are left out of the residual: the estimate does not see them.
UNSEEN = {torch.float64: 1e-8, torch.float32: 1e-6}

SPECTRA = {
    "trained network": power_law(200, 1.3),
    "untrained network": power_law(200, 1.0),
    "steep": power_law(200, 2.0),
    "exponential": torch.logspace(0, -3, 200, dtype=torch.float64),
    "spikes, too few": spikes_on_floor(8, 200),
    "spikes, too many": spikes_on_floor(30, 200),
    "spikes on a decaying floor": torch.cat([torch.full((10,), 3.0), power_law(190, 0.5)]),
    "linear": torch.linspace(2, 0.01, 200, dtype=torch.float64),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("solver", [BlockKrylov(tol=0), SubspaceIteration(tol=0, max_sweeps=8)])
def test_estimate_is_never_below_the_energy_lost_from_the_second_sweep_on(solver, spectrum, seed, dtype):
    matrix = matrix_with_spectrum(SPECTRA[spectrum], 200, 300, seed, dtype)
    generator = torch.Generator().manual_seed(seed)
    for state in solver.states(MatrixOperator(matrix), K, generator):
        result = solver.finish(state, K, generator)
        lost = lost_energy(result, matrix, SPECTRA[spectrum])
        assert lost <= result.error_estimate + UNSEEN[dtype], f"sweep {state.n_sweeps}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("kind", [BlockKrylov, SubspaceIteration])
def test_solve_stops_at_the_first_sweep_whose_estimate_meets_the_tolerance(kind, tol, seed):
    matrix = matrix_with_spectrum(SPECTRA["trained network"], 200, 300, seed)
    solver = kind(tol=tol, max_sweeps=40)
    result = solver(MatrixOperator(matrix), K, torch.Generator().manual_seed(seed))
    assert result.converged
    assert result.error_estimate == result.estimates[-1] <= tol
    assert all(estimate > tol for estimate in result.estimates[:-1])
    assert len(result.estimates) == result.n_sweeps >= 2
    assert lost_energy(result, matrix, SPECTRA["trained network"]) <= tol


@pytest.mark.parametrize("kind", [BlockKrylov, SubspaceIteration])
def test_the_first_sweep_tells_nothing(kind):
    matrix = matrix_with_spectrum(power_law(200, 4.0), 200, 300, 0)
    result = kind(tol=0.5, max_sweeps=1)(MatrixOperator(matrix), K, torch.Generator().manual_seed(0))
    assert (result.estimates, result.converged) == ((1.0,), False)


@pytest.mark.parametrize(("kind", "n_sweeps"), [(BlockKrylov, 6), (SubspaceIteration, 12)])
def test_automatic_sweeps_end_where_the_design_says(kind, n_sweeps):
    matrix = matrix_with_spectrum(torch.linspace(2, 1, 200, dtype=torch.float64), 200, 300, 0)
    result = kind(tol=1e-12)(MatrixOperator(matrix), K, torch.Generator().manual_seed(0))
    assert (result.n_sweeps, result.converged) == (n_sweeps, False)


@pytest.mark.parametrize("seed", SEEDS)
def test_krylov_needs_no_more_sweeps_than_subspace_iteration(seed):
    matrix = matrix_with_spectrum(SPECTRA["trained network"], 200, 300, seed)
    krylov, subspace = (
        kind(tol=1e-5, max_sweeps=40)(MatrixOperator(matrix), K, torch.Generator().manual_seed(seed))
        for kind in (BlockKrylov, SubspaceIteration)
    )
    assert krylov.n_sweeps < subspace.n_sweeps


@pytest.mark.parametrize("seed", SEEDS)
def test_a_share_grows_beyond_one_block_until_it_is_reached(seed, monkeypatch):
    monkeypatch.setattr("sknfk.solvers._share.MAX_SHARE_BLOCK", 8)
    spectrum = power_law(200, 1.3)
    matrix = matrix_with_spectrum(spectrum, 200, 300, seed)
    trace = float(spectrum.square().sum())
    rule = Share(0.9, trace, max_components=100)
    result = BlockKrylov()(MatrixOperator(matrix), rule, torch.Generator().manual_seed(seed))
    needed = int((spectrum.square().cumsum(0) < 0.9 * trace).sum()) + 1
    assert needed > 18  # more than the first block, or this test shows nothing
    assert result.converged
    assert needed <= len(result.components) <= needed + 1  # one more while Ritz values are low by `tol`
    assert float(result.singular_values.square().sum()) >= 0.9 * trace


@pytest.mark.parametrize("kind", [BlockKrylov, SubspaceIteration])
def test_a_state_is_judged_by_what_is_asked_of_it_now(kind):
    V = MatrixOperator(matrix_with_spectrum(SPECTRA["trained network"], 200, 300, 0))
    generator = torch.Generator().manual_seed(0)
    *_, state = kind(tol=0.0, max_sweeps=4).states(V, K, generator)
    reached = state.estimates[-1]

    def asked(n_components, tol):
        return kind(tol=tol, max_sweeps=4)(V, n_components, generator, resume=state)

    n_visits = V.n_visits
    assert asked(K, reached).converged and not asked(K, reached / 2).converged
    assert asked(K, reached).estimates == state.estimates
    assert asked(K // 2, reached).error_estimate < reached < asked(K + 5, reached).error_estimate
    assert not asked(K + 5, reached).converged
    assert V.n_visits == n_visits

    met = kind(tol=reached)(V, K, generator, resume=state)
    more = kind(tol=reached / 2)(V, K, generator, resume=state)
    assert (met.n_sweeps, more.n_sweeps) == (4, 5)
