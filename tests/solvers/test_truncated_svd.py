import re
import warnings

import numpy as np
import pytest
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.exceptions import ConvergenceWarning

from sknfk.solvers import (
    SOLVERS,
    BlockKrylov,
    MatrixOperator,
    Operator,
    make_solver,
    project_rank,
    select_solver,
    truncated_svd,
)

from .spectra import matrix_with_spectrum, power_law

SEEDS = (0, 1, 2)
K = 6
SPECTRUM = power_law(100)
TRACE = float(SPECTRUM.square().sum())


@pytest.fixture
def matrix():
    return matrix_with_spectrum(SPECTRUM, 100, 120, 0)


class Plain:
    """An operator that is not a matrix."""

    def __init__(self, matrix):
        dense = MatrixOperator(matrix)
        self.shape, self.dtype, self.device = dense.shape, dense.dtype, dense.device
        self.matmat, self.rmatmat, self.sweep, self.gram = (
            dense.matmat,
            dense.rmatmat,
            dense.sweep,
            dense.gram,
        )


def test_array_tensor_and_operator_give_the_same(matrix):
    reference = truncated_svd(matrix, K, solver="krylov")
    reversed_view = np.asarray(matrix.flip(0).numpy())[::-1]
    for same in (matrix.numpy(), reversed_view, MatrixOperator(matrix), Plain(matrix)):
        result = truncated_svd(same, K, solver="krylov")
        assert torch.equal(result.components, reference.components)


def test_protocol_recognises_operators(matrix):
    assert isinstance(MatrixOperator(matrix), Operator)
    assert isinstance(Plain(matrix), Operator)
    assert not isinstance(matrix, Operator)


def test_no_generator_is_a_fresh_one_of_seed_zero(matrix):
    before = torch.get_rng_state()
    seeded = truncated_svd(matrix, K, solver="krylov", generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        assert torch.equal(truncated_svd(matrix, K, solver="krylov").components, seeded.components)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", SEEDS)
def test_agrees_with_truncated_svd_of_scikit_learn(seed):
    matrix = matrix_with_spectrum(power_law(60, 2.0), 80, 60, seed)
    other = TruncatedSVD(K, algorithm="randomized", n_iter=20, random_state=seed).fit(matrix.numpy())
    ours = truncated_svd(matrix, K, solver="krylov", tol=1e-14, max_sweeps=20)
    np.testing.assert_allclose(ours.singular_values, other.singular_values_, rtol=1e-9)
    np.testing.assert_allclose(ours.components, other.components_, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "n_components", "name"),
    [((56, 10**6), 4, "exact"), ((57, 10**6), 4, "krylov"), ((8193, 10**6), 4096, "krylov")],
)
def test_automatic_solver_is_exact_where_a_gram_matrix_costs_less_than_two_sweeps(shape, n_components, name):
    chosen, reason = select_solver(shape, n_components)
    assert chosen == name
    assert str(shape[0]) in reason and reason.endswith(".")


@pytest.mark.parametrize(("n_rows", "solver"), [(50, "exact"), (100, "krylov")])
def test_auto_follows_the_selection(n_rows, solver, matrix):
    assert truncated_svd(matrix[:n_rows], K).solver == solver


@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_is_served_by_name(name, matrix):
    result = truncated_svd(matrix, K, solver=name)
    assert result.solver == name
    assert result.components.shape == (K, 120)


def test_options_reach_the_solver():
    assert make_solver("krylov", 1e-5, 9, 3) == BlockKrylov(tol=1e-5, max_sweeps=9, n_oversamples=3)


@pytest.mark.parametrize("solver", ["krylov", "subspace"])
def test_convergence_warning_states_estimate_tolerance_sweeps_and_remedy(solver, matrix):
    with pytest.warns(ConvergenceWarning) as record:
        result = truncated_svd(matrix, K, solver=solver, tol=1e-9, max_sweeps=3)
    assert len(record) == 1
    message = str(record[0].message)
    for part in (f"{result.error_estimate:.1e}", "tol=1.0e-09", "3 sweeps", "raise `max_sweeps` or `tol`"):
        assert part in message
    assert record[0].filename == __file__


def test_convergence_warning_of_scipy_names_another_solver():
    low = matrix_with_spectrum(power_law(8), 100, 120, 0)
    with pytest.warns(ConvergenceWarning, match=r"'lobpcg' did not meet tol=1.0e-03 after .* use solver='krylov'"):
        truncated_svd(low, K, solver="lobpcg")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("solver", ["krylov", "exact", "subspace"])
def test_a_share_within_reach_gives_the_smallest_rank_without_a_warning(solver, seed):
    matrix = matrix_with_spectrum(SPECTRUM, 100, 120, seed)
    needed = int((SPECTRUM.square().cumsum(0) < 0.8 * TRACE).sum()) + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = truncated_svd(matrix, 0.8, solver=solver, max_components=30, tol=1e-6, max_sweeps=60, trace=TRACE)
    assert len(result.components) == needed


@pytest.mark.parametrize("solver", ["krylov", "exact"])
def test_a_share_out_of_reach_warns_with_the_share_and_the_projected_rank(solver, matrix):
    with pytest.warns(UserWarning) as record:
        result = truncated_svd(matrix, 0.95, solver=solver, max_components=10)
    assert len(record) == 1
    assert len(result.components) == 10
    share = float(SPECTRUM[:10].square().sum()) / TRACE
    needed = int((SPECTRUM.square().cumsum(0) < 0.95 * TRACE).sum()) + 1
    reached, projected = re.search(r"Got (\S+) with 10 components, .* projects (\d+);", str(record[0].message)).groups()
    assert float(reached) == pytest.approx(share, abs=1e-3)  # `tol`
    assert int(projected) == project_rank(result.singular_values.square(), 0.95, TRACE, 100)
    assert abs(int(projected) - needed) <= 5  # ten values that err by `tol` fix the law to a few percent


def test_the_trace_of_a_dense_matrix_needs_not_be_given(matrix):
    given = truncated_svd(matrix, 0.8, trace=float(matrix.square().sum()), max_components=30)
    assert torch.equal(truncated_svd(matrix, 0.8, max_components=30).components, given.components)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_components": 101}, ValueError, r"`n_components` must be at most .* = 100. Got 101; lower it"),
        ({"n_components": 0}, ValueError, r"`n_components` must be an int of at least 1. Got 0; pass"),
        (
            {"n_components": 1.5},
            ValueError,
            r"`n_components` must be an int .* or a float in \(0, 1\). Got 1.5",
        ),
        ({"n_components": True}, ValueError, r"`n_components` must be an int .* Got True; pass"),
        ({"n_components": "all"}, ValueError, r"`n_components` must be an int .* Got 'all'; pass"),
        (
            {"n_components": 0.5, "max_components": 101},
            ValueError,
            r"`max_components` must be at most .* Got 101",
        ),
        ({"n_components": 0.5, "max_components": 0}, ValueError, r"`max_components` must be an int .* Got 0"),
        (
            {"n_components": 0.5, "trace": -1.0},
            ValueError,
            r"`trace` must be finite and not negative. Got -1.0",
        ),
        ({"solver": "lanczos"}, ValueError, r"`solver` must be 'auto' or one of .*'krylov'.* Got 'lanczos'"),
        ({"tol": -1e-3}, ValueError, r"`tol` must be in \[0, 1\). Got -0.001"),
        ({"max_sweeps": 0}, ValueError, r"`max_sweeps` must be 'auto' or an int of at least 1. Got 0"),
        ({"max_sweeps": "many"}, ValueError, r"`max_sweeps` must be 'auto' or an int .* Got 'many'"),
        ({"n_oversamples": -1}, ValueError, r"`n_oversamples` must be an int of at least 0. Got -1"),
        (
            {"generator": 0},
            TypeError,
            r"`generator` must be a torch.Generator on the CPU or None. Got 0; pass",
        ),
        ({"operator": [[1.0]]}, TypeError, r"`operator` must be a 2-D matrix or have .* Got list; wrap"),
        ({"operator": torch.ones(3)}, ValueError, r"`operator` must be a matrix .* Got shape \(3,\)"),
        ({"operator": torch.ones(0, 3)}, ValueError, r"`operator` must be a matrix .* Got shape \(0, 3\)"),
        (
            {"operator": torch.ones(3, 3).half()},
            TypeError,
            r"`operator` must hold float32 .* Got torch.float16",
        ),
        ({"operator": np.ones((3, 3), dtype=int)}, TypeError, r"`operator` must hold float32 .* Got int64"),
        (
            {"operator": torch.full((3, 3), torch.nan)},
            ValueError,
            r"`operator` must be finite. Got 9 entries",
        ),
    ],
)
def test_bad_input_is_refused_in_words(options, error, message, matrix):
    with pytest.raises(error, match=message):
        truncated_svd(**{"operator": matrix, "n_components": K, **options})


def test_a_share_of_an_operator_needs_the_trace(matrix):
    with pytest.raises(ValueError, match="`trace` must be given when `n_components` is a share. Got None; pass"):
        truncated_svd(Plain(matrix), 0.5)


def test_an_operator_whose_products_are_not_finite_is_refused_in_words(matrix):
    broken = matrix.clone()
    broken[3, 4] = torch.inf
    with pytest.raises(ValueError, match="products of `operator` must be finite"):
        truncated_svd(Plain(broken), K, solver="krylov")


def test_unknown_names_are_refused_by_make_solver_too():
    with pytest.raises(ValueError, match="Got 'guess'; choose one of them"):
        make_solver("guess")
