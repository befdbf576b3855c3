"""From gradients to the arrays that a fit keeps, once or out of a cache."""

from __future__ import annotations

import collections
import contextlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import joblib
import numpy as np
import torch
from joblib import Memory
from torch import Tensor

from .._portable import PortableModule
from .._sklearn import to_host
from .._torch import exact_arithmetic, with_autograd
from ..batches import Batches, Feed
from ..distributed import ALONE
from ..fisher import FisherVectors, GradientCache, RangeSample, SpreadBlocks
from ..solvers import SVDResult, random_block, spread_over, starts_from_a_block, truncated_svd
from ._content import content_digest
from ._course import Course, open_journal
from ._plan import Plan, plan_fit
from ._progress import Progress
from ._rank import Rank
from ._rows import rows_of
from ._setup import Setup

__all__ = ["Factorisation", "factorise", "factorise_cached"]


@dataclass(frozen=True)
class Factorisation:
    """Statistics and truncated SVD of the Fisher vectors of X, as CPU tensors.

    Parameters
    ----------
    mean_score, information, scale : Tensor of shape (P,)
        z, I and D.
    trace : float
        Sum of the squared lengths of all Fisher vectors of X.
    mean_shift : float
        Share of it that is their mean's.
    components : Tensor of shape (K, P)
        Orthonormal rows.
    singular_values : Tensor of shape (K,)
        Descending, in float64.
    error_estimate : float
        Estimated share of the leading energy that is lost.
    n_sweeps : int
        Passes of the solver.
    solver : str
        Its name.
    batch_size : int
        Rows that were worked on at once in the end.
    sketch_seed : int or None, default=None
        Of the signs, where components (K, w) are of sketched Fisher vectors.
    """

    mean_score: Tensor
    information: Tensor
    scale: Tensor
    trace: float
    mean_shift: float
    components: Tensor
    singular_values: Tensor
    error_estimate: float
    n_sweeps: int
    solver: str
    batch_size: int
    sketch_seed: int | None = None

    def leading(self, n_components: int) -> Factorisation:
        """Return the factorisation cut to its first components."""
        return replace(
            self,
            components=self.components[:n_components],
            singular_values=self.singular_values[:n_components],
        )


@with_autograd
def factorise(
    options: Any, setup: Setup, X: Any, rank: Rank, seed: int, progress: Progress | None = None
) -> Factorisation:
    """Estimate the statistics of X's gradients and factorise its Fisher vectors.

    Cost: one pass for the statistics, which gives the solver its first block too, one
    more where they come from other rows, and the solver's; with a cache, the solver's
    passes read gradients instead of forming them.
    """
    n_rows = setup.n_rows_in_all(X)
    journal, plan = open_journal(options, setup, X, plan_fit(options, setup, n_rows, rank))
    if options.solver == "auto" and plan.solver.startswith("sketch"):
        warnings.warn(
            f"`max_memory` must hold the solver's blocks for `tol` to be met. {plan.solver_reason} Singular values "
            "carry errors of up to some per cent; raise `max_memory`, or ask for this solver by name.",
            UserWarning,
            stacklevel=4,
        )
    setup, course = replace(setup, batch_size=plan.batch_size), Course(journal, progress)
    generator = torch.Generator().manual_seed(seed)
    batches = setup.batches(rows_of(X))
    batches = replace(batches, digests=course.digests or batches.digests, peers=setup.peers)
    if course.is_done:
        plan = replace(plan, cache=None)
    if course.goes_on:
        # What is left to do may read none of X, or a part; all of it must be what the checkpoint has seen.
        collections.deque(batches, maxlen=0)
    with _cache(plan, setup, batches) as cache:
        known = course.statistics()
        if known is None:
            sample = None
            if starts_from_a_block(plan.solver):
                sample = _range_sample(setup, rank, options.n_oversamples, generator)
            statistics, scale, moments = options._estimate(setup, batches, sample, cache, course)
        else:
            (statistics, moments, start), sample = known, None
            scale = statistics.scale(options.fisher, options.damping, setup.parameters)
            course.restore(generator)
        vectors = FisherVectors(setup.engine, batches, statistics.mean_score, scale, setup.dtype, cache, course)
        if known is None:
            start = None if sample is None else sample.finish(vectors.mean_score, vectors.scale)
            course.statistics_known(statistics, moments, start, generator)
        trace = statistics.total_variance(moments, scale) * n_rows
        found = _solved(options, setup, rank, plan, vectors, trace, start, course, generator)
    return Factorisation(
        mean_score=statistics.mean_score.cpu(),
        information=statistics.information.cpu(),
        scale=scale.cpu(),
        trace=trace,
        mean_shift=statistics.mean_shift(moments, scale),
        components=found.components.cpu(),
        singular_values=found.singular_values.cpu(),
        error_estimate=found.error_estimate,
        n_sweeps=found.n_sweeps,
        solver=found.solver,
        batch_size=batches.limit.n_rows or batches.batch_size,
        sketch_seed=None if found.sketch is None else found.sketch.seed,
    )


def _solved(
    options: Any,
    setup: Setup,
    rank: Rank,
    plan: Plan,
    vectors: FisherVectors,
    trace: float,
    start: Tensor | None,
    course: Course,
    generator: torch.Generator,
) -> SVDResult:
    """Factorise; where blocks are spread over processes, each has a part of them until the components are joined."""
    peers = setup.peers.share(setup.parameters.n_parameters)[1] if plan.blocks == "spread" else ALONE
    if not peers.is_alone and start is not None:
        start = start[peers.part].clone()
    with exact_arithmetic(setup.device), spread_over(peers):
        found = truncated_svd(
            vectors if peers.is_alone else SpreadBlocks(vectors, peers),
            rank.factorised,
            solver=plan.solver,
            tol=options.tol,
            max_sweeps=options.max_sweeps,
            n_oversamples=options.n_oversamples,
            sketch_width=options.sketch_width,
            generator=generator,
            trace=trace,
            max_components=rank.limit,
            start=start,
            resume=course.state,
            on_sweep=lambda state: setup.peers.any(course.swept(state, generator)),
        )
    if peers.is_alone:
        return found
    return replace(found, components=peers.joined(found.components.T.contiguous()).T.contiguous())


@contextlib.contextmanager
def _cache(plan: Plan, setup: Setup, batches: Batches) -> Iterator[GradientCache | None]:
    """Open the cache of a plan; a file of it is gone afterwards."""
    if plan.cache is None:
        yield None
        return
    in_bfloat16 = plan.products == torch.bfloat16
    with contextlib.ExitStack() as stack:
        where = plan.cache
        if where not in ("device", "ram"):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sknfk-gradients-", dir=where))
            where = os.path.join(folder, "rows.bfloat16")
        n_parameters = setup.parameters.n_parameters
        yield GradientCache(setup.engine, batches, n_parameters, setup.dtype, where, products_in_bfloat16=in_bfloat16)


def _range_sample(setup: Setup, rank: Rank, n_oversamples: int, generator: torch.Generator) -> RangeSample:
    """Draw the probes of a solver's first block, as wide as the block, on the parameter side."""
    n_parameters = setup.parameters.n_parameters
    width = min(rank.block_width + n_oversamples, n_parameters)
    return RangeSample(random_block(n_parameters, width, generator, setup.dtype, setup.device))


def factorise_cached(
    options: Any, setup: Setup, X: Any, rank: Rank, seed: int, memory: Memory, progress: Progress | None = None
) -> Factorisation:
    """Factorise, or read what an equal fit has stored."""
    cached = memory.cache(_stored_factorisation, ignore=["compute"])
    digest = _digest(options, setup, X, rank)
    return _from_arrays(cached(digest, compute=lambda: factorise(options, setup, X, rank, seed, progress)))


def _digest(options: Any, setup: Setup, X: Any, rank: Rank) -> str:
    """Digest what the factorisation depends on: not y, n_components, batch size or device."""
    settings = (
        options.fisher,
        options.center,
        options.damping,
        options.solver,
        options.tol,
        options.max_sweeps,
        options.n_oversamples,
        options.sketch_width,
        options.random_state,
        options.engine,
        options.gradient_cache if options.gradient_cache in ("auto", None) else "rounded",
        options.max_memory,
        options.n_reference,
    )
    statistics = options.statistics if isinstance(options.statistics, str) else _on_host(options.statistics)
    return joblib.hash(
        [
            PortableModule(setup.module),
            content_digest(setup.density, *(type(part) for part in setup.module.modules())),
            setup.parameters.names,
            str(setup.dtype),
            setup.rows_as.wanted,
            X.digest() if isinstance(X, Feed) else _on_host(X),
            statistics,
            settings,
            rank.factorised,
        ]
    )


def _on_host(array: Any) -> np.ndarray:
    host = to_host(array)
    return host.detach().cpu().numpy() if isinstance(host, Tensor) else host


def _stored_factorisation(digest: str, compute: Callable[[], Factorisation]) -> dict[str, Any]:
    """Compute what is stored under a digest, as numpy arrays."""
    return {k: v.numpy() if isinstance(v, Tensor) else v for k, v in vars(compute()).items()}


def _from_arrays(stored: dict[str, Any]) -> Factorisation:
    # Copies, because a memory with mmap_mode hands out read-only maps.
    fields: dict[str, Any] = {
        name: torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
        for name, value in stored.items()
    }
    return Factorisation(**fields)
