"""Every solver against the dense SVD."""

import pytest
import torch

from sknfk.solvers import BlockKrylov, Exact, MatrixOperator, Paper, ScipySVDS, Share, SubspaceIteration

from .spectra import lost_energy, matrix_with_spectrum, power_law, projector_distance, spikes_on_floor

SEEDS = (0, 1, 2)
K = 8

# Tolerances tight enough for the singular vectors, not only the energy, to have converged.
TIGHT = {
    "krylov": BlockKrylov(tol=1e-15, max_sweeps=40),
    "subspace": SubspaceIteration(tol=1e-15, max_sweeps=60),
    "exact": Exact(),
    "paper": Paper(n_iterations=60),
    "arpack": ScipySVDS("arpack", tol=0),
    "propack": ScipySVDS("propack", tol=0),
    "lobpcg": ScipySVDS("lobpcg", tol=1e-9, max_iterations=200),
}
OURS = ("krylov", "subspace", "exact")

RTOL = 1e-7  # of sigma_1: sqrt(eps) of a float64 Gram matrix, with a margin
FLOAT32_RTOL = 5e-6  # some tens of float32 roundings
ORTHONORMAL_ATOL = {torch.float64: 1e-12, torch.float32: 5e-6}  # some thousand and some ten roundings
# The square root of an eigenvalue's rounding, eps sigma_1^2, with a margin.
ZERO_ATOL = {torch.float64: 1e-7, torch.float32: 1e-3}
SUBSPACE_ATOL = 1e-5  # an energy estimate of 1e-15 is an angle of 3e-8 over the relative gap

CASES = {
    "tall decaying": (power_law(90, 2.0), 200, 90),
    "wide decaying": (power_law(90, 2.0), 90, 200),
    "exponential": (torch.logspace(0, -3, 60, dtype=torch.float64), 100, 120),
    "spikes on a flat floor": (spikes_on_floor(K, 100), 120, 150),
    "exactly low rank": (power_law(K + 3), 100, 120),
    "N < K + 10": (power_law(12), 12, 100),
    "P < K + 10": (power_law(12), 100, 12),
}


def solve(solver, matrix, n_components=K, seed=0):
    return solver(MatrixOperator(matrix), n_components, torch.Generator().manual_seed(seed))


def assert_orthonormal(components):
    gram = components.double() @ components.double().T
    expected = torch.eye(len(components), dtype=torch.float64)
    torch.testing.assert_close(gram, expected, rtol=0, atol=ORTHONORMAL_ATOL[components.dtype])


# LOBPCG needs a rank of 2 K and more for its search space; test_scipy.py has what it says otherwise.
SERVED = [(name, case) for name in TIGHT for case in CASES if (name, case) != ("lobpcg", "exactly low rank")]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "case"), SERVED)
def test_solver_finds_the_leading_singular_vectors(name, case, seed):
    spectrum, n_rows, n_columns = CASES[case]
    matrix = matrix_with_spectrum(spectrum, n_rows, n_columns, seed)
    result = solve(TIGHT[name], matrix, seed=seed)
    torch.testing.assert_close(result.singular_values, spectrum[:K], rtol=0, atol=RTOL * float(spectrum[0]))
    assert projector_distance(result.components, matrix) < SUBSPACE_ATOL
    assert_orthonormal(result.components)
    assert result.converged
    assert result.solver == name


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", TIGHT)
def test_each_component_is_a_singular_vector_with_its_largest_entry_positive(name, seed):
    matrix = matrix_with_spectrum(power_law(60, 2.0), 80, 60, seed)
    components = solve(TIGHT[name], matrix, seed=seed).components
    true = torch.linalg.svd(matrix, full_matrices=False)[2][:K]
    largest = true.abs().argmax(dim=1, keepdim=True)
    torch.testing.assert_close(components, true * true.gather(1, largest).sign(), rtol=0, atol=SUBSPACE_ATOL)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", [*OURS, "paper", "arpack", "propack"])
def test_float32_is_as_good_as_float32_allows(name, seed):
    spectrum = power_law(90)
    matrix = matrix_with_spectrum(spectrum, 120, 200, seed, torch.float32)
    solver = TIGHT[name] if name in ("exact", "paper") else type(TIGHT[name])(tol=1e-6)
    result = solve(solver, matrix, seed=seed)
    assert result.components.dtype == torch.float32
    assert result.singular_values.dtype == torch.float64
    torch.testing.assert_close(result.singular_values, spectrum[:K], rtol=0, atol=FLOAT32_RTOL)
    assert lost_energy(result, matrix, spectrum) < 1e-6  # the tolerance asked for
    assert_orthonormal(result.components)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OURS)
def test_components_beyond_the_rank_are_orthonormal_with_zero_singular_values(name, dtype, seed):
    matrix = matrix_with_spectrum(power_law(5), 40, 50, seed, dtype)
    result = solve(TIGHT[name], matrix, seed=seed)
    assert result.components.shape == (K, 50)
    assert_orthonormal(result.components)
    assert float(result.singular_values[5:].max()) < ZERO_ATOL[dtype]
    assert projector_distance(result.components[:5], matrix) < (1e-7 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("name", [*OURS, "paper"])
def test_the_zero_matrix_has_zero_singular_values(name):
    result = solve(TIGHT[name], torch.zeros(30, 40))
    assert_orthonormal(result.components)
    assert result.singular_values.tolist() == [0.0] * K


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["krylov", "subspace", "exact"])
def test_a_flat_spectrum_gives_some_orthonormal_vectors_of_full_energy(name, seed):
    matrix = matrix_with_spectrum(torch.ones(60), 60, 80, seed)
    solver = TIGHT[name] if name != "subspace" else SubspaceIteration(max_sweeps=3)
    result = solve(solver, matrix, seed=seed)
    assert lost_energy(result, matrix, torch.ones(60)) < 1e-12
    assert_orthonormal(result.components)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(30, 45), (45, 30), (30, 30)])
def test_krylov_is_exact_once_its_blocks_fill_the_space(shape, seed):
    spectrum = torch.linspace(2, 1, 30, dtype=torch.float64)
    matrix = matrix_with_spectrum(spectrum, *shape, seed)
    result = solve(BlockKrylov(tol=0, max_sweeps=50), matrix, seed=seed)
    assert result.converged
    assert result.error_estimate == 0.0
    assert result.n_sweeps <= 4  # 18 columns a block: 2 fill P = 30, 3 fill P = 45 and one more tells
    assert lost_energy(result, matrix, spectrum) < 1e-12


@pytest.mark.parametrize("name", ["krylov", "subspace"])
def test_a_block_as_wide_as_the_matrix_is_exact_after_one_sweep(name):
    matrix = matrix_with_spectrum(power_law(12), 100, 12, 0)
    result = solve(TIGHT[name], matrix)
    assert (result.n_sweeps, result.error_estimate, result.converged) == (1, 0.0, True)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_row_order_does_not_matter(name, seed, dtype):
    matrix = matrix_with_spectrum(power_law(100), 100, 150, seed, dtype)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(seed))
    loose = Exact() if name == "exact" else type(TIGHT[name])()
    embedding = matrix @ solve(loose, matrix, seed=seed).components.T
    permuted = matrix @ solve(loose, matrix[order], seed=seed).components.T
    difference = torch.linalg.matrix_norm(embedding - permuted) / torch.linalg.matrix_norm(embedding)
    assert float(difference) < (1e-10 if dtype == torch.float64 else 1e-5)  # promise 1 of the design


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", TIGHT)
def test_a_lower_rank_is_the_first_columns_of_a_higher_one(name, seed):
    matrix = matrix_with_spectrum(power_law(60, 2.0), 80, 60, seed)
    high, low = solve(TIGHT[name], matrix, K, seed), solve(TIGHT[name], matrix, 3, seed)
    torch.testing.assert_close(high.components[:3], low.components, rtol=0, atol=SUBSPACE_ATOL)


@pytest.mark.parametrize("name", TIGHT)
def test_equal_generators_give_bitwise_equal_results(name):
    matrix = matrix_with_spectrum(power_law(60), 80, 60, 0, torch.float32)
    before = torch.get_rng_state()
    first, second = (solve(TIGHT[name], matrix, seed=3) for _ in range(2))
    assert torch.equal(first.components, second.components)
    assert torch.equal(first.singular_values, second.singular_values)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", TIGHT)
def test_every_solver_serves_a_share_of_the_trace(name, seed):
    spectrum = power_law(60, 2.0)
    matrix = matrix_with_spectrum(spectrum, 80, 60, seed)
    trace = float(spectrum.square().sum())
    needed = int((spectrum.square().cumsum(0) < 0.9 * trace).sum()) + 1
    result = solve(TIGHT[name], matrix, Share(0.9, trace, max_components=20), seed)
    assert len(result.components) == len(result.singular_values) == needed


@pytest.mark.parametrize("name", TIGHT)
def test_sweeps_reported_are_visits_made(name):
    operator = MatrixOperator(matrix_with_spectrum(power_law(60), 80, 60, 0))
    result = TIGHT[name](operator, K, torch.Generator().manual_seed(0))
    assert result.n_sweeps == operator.n_visits


def test_paper_makes_two_visits_an_iteration_and_two_more():
    operator = MatrixOperator(matrix_with_spectrum(power_law(60), 80, 60, 0))
    Paper(n_iterations=10)(operator, K, torch.Generator().manual_seed(0))
    assert operator.n_visits == 22


@pytest.mark.parametrize("seed", SEEDS)
def test_krylov_with_narrow_blocks_grows_to_the_components_asked_for(seed):
    matrix = matrix_with_spectrum(power_law(80), 100, 120, seed)
    result = solve(BlockKrylov(block=4, max_sweeps=40), matrix, seed=seed)
    assert result.converged
    assert lost_energy(result, matrix, power_law(80)) < 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_krylov_with_narrow_blocks_completes_what_a_low_rank_leaves(seed):
    matrix = matrix_with_spectrum(power_law(2), 30, 40, seed)
    result = solve(BlockKrylov(block=2, tol=0), matrix, seed=seed)
    assert result.components.shape == (K, 40)
    assert result.singular_values.shape == (K,)
    assert_orthonormal(result.components)


@pytest.mark.parametrize("name", ["krylov", "subspace"])
def test_a_solve_resumed_from_any_state_is_bitwise_the_same(name):
    matrix = matrix_with_spectrum(power_law(80), 100, 120, 0, torch.float32)
    solver = type(TIGHT[name])(tol=1e-6)
    whole = solve(solver, matrix)
    operator, generator = MatrixOperator(matrix), torch.Generator().manual_seed(0)
    for state in list(solver.states(operator, K, generator)):
        last = state
        for last in solver.states(operator, K, generator, resume=state):  # noqa: B007
            pass
        resumed = solver.finish(last, K, generator)
        assert torch.equal(resumed.components, whole.components)
        assert resumed.estimates == whole.estimates
