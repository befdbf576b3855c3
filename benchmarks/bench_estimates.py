"""The error estimate after each sweep against the energy that is truly lost there.

The solver runs in float32, as in a fit, from the start block that the estimator makes; the truth is the eigenvalues
of the float64 Gram matrix and the float64 Fisher vectors' energy in the components' span. ``ratio`` is true over
estimate: the target is at most 1, and at least 0.02 while the true error is above 1e-6, where float32 rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sknfk.fisher import FisherVectors, RangeSample
from sknfk.solvers import BlockKrylov, SVDResult, random_block

from . import children, ours
from .cases import CASES, Case
from .measuring import significant
from .reference import UNSEEN

TAKES = ("cases",)
FULL = (
    ("lenet5", 2_000, 128),
    ("resnet20", 2_000, 128),
    ("dcgan", 1_000, 128),
    ("pixelcnn", 300, 32),
    ("mlp", 2_000, 128),
    ("transformer", 1_000, 64),
)
SMOKE = (("tiny", 150, 4),)
N_SWEEPS = 6
SEEDS = (0, 1, 2)
N_OVERSAMPLES = 10


def rows(device: str, smoke: bool, cases: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, N, K in SMOKE if smoke else FULL:
        if cases and name not in cases:
            continue
        arguments = {"name": name, "n_examples": N, "n_components": K, "device": device}
        row = estimates(**arguments) if smoke else children.call("benchmarks.bench_estimates:estimates", **arguments)
        yield f"{name}/{N}/{K}", row


def estimates(name: str, n_examples: int, n_components: int, device: str) -> dict[str, Any]:
    case, target = CASES[name](n_examples), torch.device(device)
    exact = double_vectors(case, target)
    total = float(torch.linalg.eigvalsh(exact.gram())[-n_components:].sum())
    vectors = ours.fit(case, 1, target, solver="krylov", max_sweeps=1, tol=0.9).operator(case.X).torch
    seeds = []
    for seed in SEEDS:
        true, estimated = [], []
        for result in solve(vectors, n_components, seed):
            true.append(significant(1 - captured(exact, result.components) / total))
            estimated.append(result.error_estimate)
        seeds.append({"seed": seed, **compared(true, estimated)})
    judged = [ratio for found in seeds for ratio in found["judged"]]
    return {
        "n_examples": n_examples,
        "n_components": n_components,
        "precision": "float32 solver, float64 truth",
        "seeds": seeds,
        "largest_ratio": max(judged, default=None),
        "smallest_ratio": min(judged, default=None),
        "largest_excess": significant(max(found["excess"] for found in seeds)),
    }


def double_vectors(case: Case, device: torch.device) -> FisherVectors:
    """Fisher vectors in float64, about their own statistics, by vmap."""
    options = {"dtype": "float64", "engine": "vmap", "solver": "krylov", "max_sweeps": 1, "tol": 0.9}
    return ours.fit(case, 1, device, **options, **ours.without_cache()).operator(case.X).torch


def solve(vectors: FisherVectors, n_components: int, seed: int) -> Iterator[SVDResult]:
    """The solver's result if it stopped after each sweep, one at a time: DCGAN's are 1.4 GB each."""
    generator = torch.Generator().manual_seed(seed)
    width = n_components + N_OVERSAMPLES
    sample = RangeSample(random_block(vectors.shape[1], width, generator, vectors.dtype, vectors.device))
    for block in vectors.blocks():
        sample.add(block)
    start = sample.finish(vectors.mean_score, vectors.scale)
    solver = BlockKrylov(tol=0.0, max_sweeps=N_SWEEPS, n_oversamples=N_OVERSAMPLES)
    for state in solver.states(vectors, n_components, generator, start=start):
        yield solver.finish(state, n_components, generator)


def captured(exact: FisherVectors, components: Tensor) -> float:
    """Energy of V in the span of components (K, P), in float64; their Gram matrix mends float32."""
    C = components.double()
    E = exact.matmat(C.T)  # (N, K)
    return float(torch.linalg.solve(C @ C.T, E.T @ E).trace())


def compared(true: list[float], estimate: list[float]) -> dict[str, Any]:
    """From the second sweep on: the first one's estimate says nothing, by design."""
    pairs = list(zip(true, estimate, strict=True))
    ratios = [significant(t / e) if e > 0 else None for t, e in pairs]
    return {
        "true": true,
        "estimate": [significant(e) for e in estimate],
        "ratio": ratios,
        "judged": [r for r, (t, _) in list(zip(ratios, pairs, strict=True))[1:] if t > UNSEEN and r is not None],
        "excess": max((t - e for t, e in pairs[1:]), default=0.0),
    }
