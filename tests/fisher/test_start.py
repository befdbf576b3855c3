"""The solver's first block out of the statistics pass."""

import pytest
import torch

from sknfk.fisher import FisherVectors, RangeSample, estimate_moments, estimate_statistics
from sknfk.solvers import truncated_svd

from ..cases import FLOAT64_RTOL, convnet, rows
from .test_statistics import problem


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("center", [True, False])
def test_range_sample_is_the_product_of_the_formed_matrices(batch_size, center):
    X = rows(20, 1, 8, 8)
    engine, batches, space = problem(convnet(), X, batch_size)
    G = torch.randn(space.n_parameters, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sample = RangeSample(G)
    statistics = estimate_statistics(estimate_moments(engine, batches, space, sample), center=center)
    scale = statistics.scale("diag", 1e-3)
    J = engine(torch.from_numpy(X)).rows()
    expected = ((J - statistics.mean_score) * scale).T @ (J @ G)
    found = sample.finish(statistics.mean_score, scale)
    assert float((found - expected).norm()) <= FLOAT64_RTOL * float(expected.norm())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("solver", ["krylov", "subspace"])
def test_starting_from_the_range_sample_saves_a_sweep(solver, seed):
    X = rows(300, 1, 8, 8)
    engine, batches, space = problem(convnet(), X, 64)
    generator = torch.Generator().manual_seed(seed)
    sample = RangeSample(torch.randn(space.n_parameters, 18, generator=generator, dtype=torch.float64))
    statistics = estimate_statistics(estimate_moments(engine, batches, space, sample))
    scale = statistics.scale("diag", 1e-3)
    V = FisherVectors(engine, batches, statistics.mean_score, scale, torch.float64)
    options = {"solver": solver, "tol": 1e-5, "max_sweeps": 60, "generator": generator}
    warm = truncated_svd(V, 8, start=sample.finish(statistics.mean_score, scale), **options)
    cold = truncated_svd(V, 8, **options)
    assert warm.n_sweeps < cold.n_sweeps
    torch.testing.assert_close(warm.singular_values, cold.singular_values, rtol=1e-3, atol=0)
