"""Solvers that see a sketch, against dense decompositions of it."""

import math

import pytest
import torch

from sknfk.solvers import MatrixOperator, Sketch, SketchRefined, truncated_svd

from .spectra import matrix_with_spectrum, power_law
from .test_signs import materialised

N, P, K, W = 90, 400, 6, 128
N_MANY = 600  # rows that are decomposed by sweeps and not by their Gram matrix
SPECTRUM = power_law(N, 1.0)
RTOL = 1e-7  # sqrt(eps) of a float64 Gram matrix, with a margin


def solved(solver, matrix, seed=0, n_components=K):
    operator = MatrixOperator(matrix)
    return solver(operator, n_components, torch.Generator().manual_seed(seed)), operator


def matrix(seed=0, dtype=torch.float64):
    return matrix_with_spectrum(SPECTRUM, N, P, seed, dtype)


def worst(found, expected):
    return float((found - expected).abs().max() / expected[0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_sketch_is_decomposed_as_the_materialised_product_is(seed):
    V = matrix(seed)
    found, operator = solved(Sketch(W), V, seed)
    Z = V @ materialised(found.sketch)
    _, S, Rh = torch.linalg.svd(Z, full_matrices=False)
    assert (found.sketch.width, found.components.shape) == (W, (K, W))
    assert worst(found.singular_values, S[:K]) < RTOL
    assert float((found.components.T @ found.components - Rh[:K].T @ Rh[:K]).norm()) < 1e-4
    assert (operator.n_visits, found.n_sweeps, found.converged) == (1, 1, True)
    assert math.isnan(found.error_estimate)


@pytest.mark.parametrize("solver", [Sketch, SketchRefined])
def test_many_rows_are_decomposed_far_below_the_error_of_the_sketch(solver):
    V = matrix_with_spectrum(SPECTRUM, N_MANY, P, 0)
    found, _ = solved(solver(W), V)
    truth = torch.linalg.svdvals(V if found.sketch is None else V @ materialised(found.sketch))[:K]
    assert worst(found.singular_values, truth) < (1e-6 if found.sketch is not None else 0.01)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_refining_is_one_step_of_subspace_iteration_from_the_left_vectors_of_the_sketch(seed):
    V = matrix(seed)
    sketch = solved(Sketch(W), V, seed)[0].sketch
    found, operator = solved(SketchRefined(W, n_oversamples=4), V, seed)
    U = torch.linalg.svd(V @ materialised(sketch), full_matrices=False)[0][:, : K + 4]
    Q = torch.linalg.qr(V.T @ U)[0]
    _, S, Ph = torch.linalg.svd(V @ Q, full_matrices=False)
    components = (Q @ Ph[:K].T).T
    assert worst(found.singular_values, S[:K]) < RTOL
    assert float((found.components.T @ found.components - components.T @ components).norm()) < 1e-4
    assert (operator.n_visits, found.n_sweeps, found.sketch) == (3, 3, None)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_refining_takes_most_of_the_error_of_a_sketch_away(seed):
    errors = [
        float((solved(solver, matrix(seed), seed)[0].singular_values / SPECTRUM[:K] - 1).abs().max())
        for solver in (Sketch(W), SketchRefined(W))
    ]
    assert errors[0] < 2 * (2 / W) ** 0.5
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("solver", [Sketch, SketchRefined])
@pytest.mark.parametrize("width", ["auto", P])
def test_a_sketch_as_wide_as_the_matrix_is_exact(solver, width):
    found, _ = solved(solver(width), matrix())
    assert worst(found.singular_values, SPECTRUM[:K]) < RTOL
    assert (found.components.shape, found.sketch) == ((K, P), None)


@pytest.mark.parametrize("solver", ["sketch", "sketch-refined"])
def test_a_share_of_the_trace_is_reached_to_some_per_cent(solver):
    V = matrix()
    trace = float(V.square().sum())
    found = truncated_svd(V, 0.9, solver=solver, sketch_width=300)
    share = float(SPECTRUM[: len(found.singular_values)].square().sum()) / trace
    assert share == pytest.approx(0.9, rel=0.03)


@pytest.mark.parametrize("solver", ["sketch", "sketch-refined"])
def test_what_cannot_be_sketched_is_refused_in_words(solver):
    with pytest.raises(ValueError, match=r"`sketch_width` must be at least the number of components, 6\. Got 5; pass"):
        truncated_svd(matrix(), K, solver=solver, sketch_width=5)

    class Plain:
        shape, dtype, device = (N, P), torch.float64, torch.device("cpu")
        matmat = rmatmat = sweep = gram = lambda self, block: None

    with pytest.raises(TypeError, match=r"`operator` must have a method `sketch`.*Got Plain; give it one"):
        truncated_svd(Plain(), K, solver=solver)
