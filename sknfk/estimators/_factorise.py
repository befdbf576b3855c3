"""From gradients to the arrays that a fit keeps, once or out of a cache."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import joblib
import numpy as np
import torch
from joblib import Memory
from torch import Tensor

from .._portable import PortableModule
from .._sklearn import to_host
from ..fisher import FisherVectors, RangeSample
from ..solvers import Share, random_block, select_solver, starts_from_a_block, truncated_svd
from ._setup import Setup

__all__ = ["Factorisation", "Rank", "factorise", "factorise_cached", "resolve_rank"]

DEFAULT_MAX_COMPONENTS = 1024


@dataclass(frozen=True)
class Factorisation:
    """Statistics and truncated SVD of the Fisher vectors of X, as CPU tensors.

    Parameters
    ----------
    mean_score, information, scale : Tensor of shape (P,)
        z, I and D.
    trace : float
        Sum of the squared lengths of all Fisher vectors of X.
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
    """

    mean_score: Tensor
    information: Tensor
    scale: Tensor
    trace: float
    components: Tensor
    singular_values: Tensor
    error_estimate: float
    n_sweeps: int
    solver: str

    def leading(self, n_components: int) -> Factorisation:
        """Return the factorisation cut to its first components."""
        return replace(
            self,
            components=self.components[:n_components],
            singular_values=self.singular_values[:n_components],
        )


@dataclass(frozen=True)
class Rank:
    """How many components to factorise, and how many of them to keep.

    Parameters
    ----------
    asked : int or float
        ``n_components``: a number, clipped, or a share of the trace.
    factorised : int or float
        What the solver is asked for.
    limit : int
        The most components that the solver may give.
    """

    asked: int | float
    factorised: int | float
    limit: int

    @property
    def most(self) -> int:
        """The most components that the solver may be asked for."""
        return self.limit if 0 < self.factorised < 1 else int(self.factorised)

    @property
    def block_width(self) -> int:
        """Columns of the solver's block, before oversampling."""
        return Share(self.factorised, 1.0, self.limit).block_width if 0 < self.factorised < 1 else self.most

    def kept(self, singular_values: Tensor, trace: float) -> int:
        """Return how many of the components found are kept."""
        if self.asked >= 1:
            return int(self.asked)
        return Share(self.asked, trace, self.limit).rank(singular_values.square())


def resolve_rank(options: Any, limit: int) -> Rank:
    """Resolve ``n_components``, ``max_components`` and ``memory``.

    Raises
    ------
    ValueError
        If ``n_components`` is above ``max_components``.
    """
    asked, most = options.n_components, options.max_components
    if 0 < asked < 1:
        bound = min(most or DEFAULT_MAX_COMPONENTS, limit)
        # In a cache every share is a slice of one factorisation, as every rank is.
        return Rank(float(asked), bound if options.memory is not None and most else float(asked), bound)
    if most is not None and asked > most:
        raise ValueError(
            f"`n_components` must be at most `max_components`. Got {asked} above {most}; raise `max_components`."
        )
    if asked > limit:
        warnings.warn(
            f"`n_components` must be at most min(n_samples, n_parameters) = {limit}. Got {asked}; using {limit}.",
            UserWarning,
            stacklevel=3,
        )
    factorised = most if options.memory is not None and most else asked
    return Rank(min(int(asked), limit), min(int(factorised), limit), limit)


def factorise(options: Any, setup: Setup, X: Any, rank: Rank, seed: int) -> Factorisation:
    """Estimate the statistics of X's gradients and factorise its Fisher vectors.

    Cost: one pass for the statistics, which gives the solver its first block too, one
    more where they come from other rows, and the solver's.
    """
    solver = options.solver
    if solver == "auto":
        solver, _ = select_solver((X.shape[0], setup.parameters.n_parameters), rank.most, options.n_oversamples)
    generator = torch.Generator().manual_seed(seed)
    sample = _range_sample(setup, rank, options.n_oversamples, generator) if starts_from_a_block(solver) else None
    statistics, scale, moments = options._estimate(setup, X, None if sample is None else sample.add)
    vectors = FisherVectors(setup.engine, setup.batches(to_host(X)), statistics.mean_score, scale, setup.dtype)
    trace = statistics.total_variance(moments, scale) * X.shape[0]
    found = truncated_svd(
        vectors,
        rank.factorised,
        solver=solver,
        tol=options.tol,
        max_sweeps=options.max_sweeps,
        n_oversamples=options.n_oversamples,
        generator=generator,
        trace=trace,
        max_components=rank.limit,
        start=None if sample is None else sample.finish(statistics.mean_score, scale),
    )
    return Factorisation(
        mean_score=statistics.mean_score.cpu(),
        information=statistics.information.cpu(),
        scale=scale.cpu(),
        trace=trace,
        components=found.components.cpu(),
        singular_values=found.singular_values.cpu(),
        error_estimate=found.error_estimate,
        n_sweeps=found.n_sweeps,
        solver=found.solver,
    )


def _range_sample(setup: Setup, rank: Rank, n_oversamples: int, generator: torch.Generator) -> RangeSample:
    """Draw the probes of a solver's first block, as wide as the block, on the parameter side."""
    n_parameters = setup.parameters.n_parameters
    width = min(rank.block_width + n_oversamples, n_parameters)
    return RangeSample(random_block(n_parameters, width, generator, setup.dtype, setup.device))


def factorise_cached(options: Any, setup: Setup, X: Any, rank: Rank, seed: int, memory: Memory) -> Factorisation:
    """Factorise, or read what an equal fit has stored."""
    cached = memory.cache(_stored_factorisation, ignore=["compute"])
    try:
        digest = _digest(options, setup, X, rank)
    except (pickle.PicklingError, AttributeError) as error:
        raise pickle.PicklingError(
            "`density` and `model` must be made of functions and classes defined at module level where `memory` is "
            f"given, since their content is the key. Got {setup.density!r}; define it with def."
        ) from error
    return _from_arrays(cached(digest, compute=lambda: factorise(options, setup, X, rank, seed)))


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
        options.random_state,
        options.engine,
    )
    statistics = options.statistics if isinstance(options.statistics, str) else _on_host(options.statistics)
    return joblib.hash(
        [
            PortableModule(setup.module),
            setup.density,
            setup.parameters.names,
            str(setup.dtype),
            setup.rows_as.wanted,
            _on_host(X),
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
