"""All solvers on the Fisher vectors of the real LeNet-5: 2,000 images, 61,706 parameters, 128 components."""

import numpy as np
import pytest
import torch

from sknfk import NFKTransformer
from sknfk.solvers import BlockKrylov, Exact, MatrixOperator, Paper, ScipySVDS, SubspaceIteration

from ..zoo_data import requires_zoo
from .lenet import lenet5, mnist_examples, mnist_images

pytestmark = [pytest.mark.slow, requires_zoo]

N, K = 2_000, 128
HALF = K // 2
# Eigenvalues in float32: what DESIGN 6 promises of embeddings.
EIGENVALUE_RTOL = 1e-5
# Of a fit that keeps its gradients in bfloat16, as "auto" does here: 1e-4 was measured.
ROUNDED_EIGENVALUE_RTOL = 2e-4
# What the default tolerance, 1e-3 of the leading energy by estimate, is to give.
LOST_ENERGY, KERNEL_RTOL = 1e-3, 1e-2
# With tol=1e-5 and up to 12 sweeps.
TIGHT_KERNEL_RTOL = 1e-3
# Components in float32 hold their energy to some 1e-7; the estimate does not see that.
UNSEEN = 1e-6


@pytest.fixture(autouse=True)
def one_thread():
    """These products are large: they take all the threads that the machine gives."""


@pytest.fixture(scope="module")
def X():
    return mnist_images(N)


@pytest.fixture(scope="module")
def nfk(X):
    """The whole path, by default settings."""
    return NFKTransformer(lenet5(), K, random_state=0).fit(X)


@pytest.fixture(scope="module")
def V(nfk, X):
    """Fisher vectors, (N, P) in float32: 0.5 GB."""
    return torch.from_numpy(nfk.fisher_vectors(X))


@pytest.fixture(scope="module")
def truth(V):
    """Eigenvalues of V V^T in float64, descending, and its eigenvectors."""
    gram = torch.zeros(N, N, dtype=torch.float64)
    for part in V.split(2**12, dim=1):
        gram.addmm_(part.double(), part.double().T)
    eigenvalues, U = torch.linalg.eigh(gram)
    return eigenvalues.flip(0), U.flip(1)


@pytest.fixture(scope="module")
def solve(V):
    """Call a solver on the materialised Fisher vectors, each one once."""
    results = {}

    def solved(solver):
        if solver not in results:
            results[solver] = solver(MatrixOperator(V), K, torch.Generator().manual_seed(0))
        return results[solver]

    return solved


def embedding(V, components):
    """V P_K in float64, (N, K)."""
    P = torch.as_tensor(components).double().T
    return torch.cat([rows.double() @ P for rows in V.split(250)])


def kernel_error(Z, truth):
    """Relative distance of Z Z^T from the best kernel of rank K, in Frobenius norm."""
    eigenvalues, U = truth
    best = (U[:, :K] * eigenvalues[:K]) @ U[:, :K].T
    return float((Z @ Z.T - best).norm() / best.norm())


def lost_energy(Z, components, truth):
    """Share of the leading energy outside the span of the components."""
    components = torch.as_tensor(components).double()
    # The Gram matrix takes out what float32 leaves of orthonormality.
    captured = torch.linalg.solve(components @ components.T, Z.T @ Z).trace()
    return float(1 - captured / truth[0][:K].sum())


def half_error(singular_values, truth):
    """Largest relative error of the leading half of the eigenvalues."""
    found = torch.as_tensor(singular_values).double().square()
    return float((found / truth[0][:K] - 1).abs()[:HALF].max())


def record(record_property, **numbers):
    for name, value in numbers.items():
        record_property(name, value)
        print(f"{name}: {value}")


def test_images_are_prepared_as_the_model_was_trained():
    images, labels = mnist_examples(1_000)
    predicted = lenet5()(torch.from_numpy(images)).argmax(1).numpy()
    assert np.mean(predicted == labels) > 0.98  # 98.5 % by the zoo's loader


def test_default_tolerance_bounds_the_energy_lost_and_the_error_of_the_kernel(V, solve, truth, record_property):
    result = solve(BlockKrylov())
    Z = embedding(V, result.components)
    lost, error = lost_energy(Z, result.components, truth), kernel_error(Z, truth)
    record(record_property, lost=lost, error=error, estimate=result.error_estimate, n_sweeps=result.n_sweeps)
    assert result.converged
    assert lost <= LOST_ENERGY
    assert error <= KERNEL_RTOL


def test_a_hundredth_of_the_tolerance_gives_a_kernel_to_a_thousandth(V, solve, truth, record_property):
    result = solve(BlockKrylov(tol=1e-5, max_sweeps=12))
    error = kernel_error(embedding(V, result.components), truth)
    record(record_property, error=error, estimate=result.error_estimate, n_sweeps=result.n_sweeps)
    assert result.converged
    assert error <= TIGHT_KERNEL_RTOL


SOLVERS_TO_THE_TOP = {
    "exact": Exact(),
    "krylov": BlockKrylov(tol=1e-5, max_sweeps=12),
    "arpack": ScipySVDS("arpack", tol=0),
    "paper": Paper(n_iterations=10),
    "subspace": SubspaceIteration(tol=0, max_sweeps=14),
}


@pytest.mark.parametrize("name", SOLVERS_TO_THE_TOP)
def test_solvers_agree_on_the_leading_half_of_the_eigenvalues(name, solve, truth, record_property):
    result = solve(SOLVERS_TO_THE_TOP[name])
    error = half_error(result.singular_values, truth)
    record(record_property, error=error, n_sweeps=result.n_sweeps)
    assert error < EIGENVALUE_RTOL


@pytest.mark.parametrize("name", ["exact", "arpack"])
def test_solvers_run_to_the_end_give_the_best_kernel_in_float32(name, V, solve, truth, record_property):
    error = kernel_error(embedding(V, solve(SOLVERS_TO_THE_TOP[name]).components), truth)
    record(record_property, error=error)
    assert error < EIGENVALUE_RTOL


def test_estimate_of_krylov_is_never_below_the_energy_lost_from_the_second_sweep_on(V, truth, record_property):
    solver, generator = BlockKrylov(tol=0), torch.Generator().manual_seed(0)
    for state in solver.states(MatrixOperator(V), K, generator):
        if state.n_sweeps == 1:
            continue
        result = solver.finish(state, K, generator)
        lost = lost_energy(embedding(V, result.components), result.components, truth)
        record(record_property, **{f"lost_{state.n_sweeps}": lost, f"estimate_{state.n_sweeps}": state.estimates[-1]})
        assert lost <= state.estimates[-1] + UNSEEN, f"sweep {state.n_sweeps}"
    assert state.n_sweeps == 6


def test_about_a_third_of_the_parameters_is_dead(nfk, V, record_property):
    record(record_property, dead_fraction=nfk.dead_fraction_)
    assert nfk.dead_fraction_ == pytest.approx(1 / 3, abs=0.05)
    assert nfk.dead_fraction_ == pytest.approx(float((V == 0).all(0).double().mean()))


def test_the_whole_path_agrees_with_the_materialised_result(nfk, X, V, solve, truth, record_property):
    Z = torch.from_numpy(nfk.transform(X)).double()
    error = kernel_error(Z, truth)
    materialised = embedding(V, solve(BlockKrylov()).components)
    between = float((Z @ Z.T - materialised @ materialised.T).norm() / (materialised @ materialised.T).norm())
    record(record_property, error=error, between=between, estimate=nfk.error_estimate_, n_sweeps=nfk.n_sweeps_)
    assert nfk.solver_ == "krylov"
    assert error <= KERNEL_RTOL
    assert between <= KERNEL_RTOL
    assert lost_energy(Z, nfk.components_, truth) <= LOST_ENERGY
    assert half_error(nfk.singular_values_, truth) < ROUNDED_EIGENVALUE_RTOL
