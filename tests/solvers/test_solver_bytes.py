"""The memory that solvers are said to work with, against what they allocate."""

import warnings

import pytest
import torch

from sknfk.solvers import MatrixOperator, make_solver, solver_bytes

from ..memory import peak_bytes
from .spectra import matrix_with_spectrum, power_law

N, P = 60, 2500
MATRICES = {dtype: matrix_with_spectrum(power_law(N), N, P, 0, dtype) for dtype in (torch.float32, torch.float64)}


def allocated(name, dtype, n_components, max_sweeps):
    """What a solver holds at once beyond its operator."""
    operator = MatrixOperator(MATRICES[dtype])
    solver = make_solver(name, tol=0.0, max_sweeps=max_sweeps)
    return peak_bytes(lambda: solver(operator, n_components, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("max_sweeps", ["auto", 3])
@pytest.mark.parametrize("n_components", [2, 20])
@pytest.mark.parametrize("name", ["krylov", "subspace"])
def test_solvers_allocate_no_more_than_they_say(name, n_components, max_sweeps, dtype):
    block = n_components + 10
    bound = solver_bytes(name, (N, P), block, n_components, max_sweeps, dtype.itemsize)
    assert 0.4 * bound < allocated(name, dtype, n_components, max_sweeps) <= bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exact_solver_allocates_no_more_than_it_says(dtype):
    square = matrix_with_spectrum(power_law(300), 300, 320, 0, dtype)
    operator, solver = MatrixOperator(square), make_solver("exact")
    formed = 2 * square.numel() * 8  # the Gram matrix of a dense operator, by float64 copies
    found = peak_bytes(lambda: solver(operator, 8, torch.Generator()))
    assert found <= solver_bytes("exact", (300, 320), 18, 8, itemsize=dtype.itemsize) + formed


def test_subspace_iteration_holds_the_same_however_many_sweeps_it_makes_and_krylov_a_block_for_each():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        few, many = (allocated("subspace", torch.float64, 10, n) for n in (2, 8))
        assert many <= 1.01 * few
        few, many = (allocated("krylov", torch.float64, 2, n) for n in (3, 5))
    assert many - few == pytest.approx(2 * P * 12 * 8, rel=0.3)  # the peak is at a sweep or at the end


@pytest.mark.parametrize("name", ["krylov", "subspace", "exact", "paper", "arpack"])
def test_the_bound_grows_with_everything_that_it_is_a_function_of(name):
    base = solver_bytes(name, (100, 1000), 18, 8)
    assert solver_bytes(name, (100, 2000), 18, 8) > base
    assert solver_bytes(name, (100, 1000), 28, 18) > base
    assert solver_bytes(name, (100, 1000), 18, 8, itemsize=8) > base
    assert (solver_bytes(name, (200, 1000), 18, 8) > base) == (name not in ("krylov", "subspace"))
    assert (solver_bytes(name, (100, 1000), 18, 8, 20) > base) == (name == "krylov")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_rows", [N, 600])
@pytest.mark.parametrize("name", ["sketch", "sketch-refined"])
def test_sketches_allocate_no_more_than_the_bound(name, n_rows, dtype):
    K, width = 8, 96
    operator = MatrixOperator(matrix_with_spectrum(power_law(N), n_rows, P, 0, dtype))
    solver = make_solver(name, n_oversamples=4, sketch_width=width)
    found = peak_bytes(lambda: solver(operator, K, torch.Generator().manual_seed(0)))
    bound = solver_bytes(name, (n_rows, P), K + 4, K, itemsize=dtype.itemsize, sketch_width=width)
    assert found <= bound
    if name == "sketch-refined":
        assert bound > 3 * P * (K + 4) * dtype.itemsize
