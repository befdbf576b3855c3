"""How many components are computed, and how many are kept."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..solvers import Share, warn_share_missed

__all__ = ["Rank", "resolve_rank"]

DEFAULT_MAX_COMPONENTS = 1024


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
    full : int
        min(n_samples, n_parameters).
    """

    asked: int | float
    factorised: int | float
    limit: int
    full: int

    @property
    def most(self) -> int:
        """The most components that the solver may be asked for."""
        return self.limit if 0 < self.factorised < 1 else int(self.factorised)

    @property
    def block_width(self) -> int:
        """Columns of the solver's block, before oversampling."""
        return Share(self.factorised, 1.0, self.limit).block_width if 0 < self.factorised < 1 else self.most

    def kept(self, singular_values: Tensor, trace: float) -> int:
        """Return how many of the components found are kept.

        Warns where they miss a share of which the solver, asked for a number, knew nothing.
        """
        if self.asked >= 1:
            return int(self.asked)
        share = Share(self.asked, trace, self.limit)
        if self.factorised >= 1 and not share.reached(singular_values.square()):
            warn_share_missed(singular_values, share, self.full)
        return share.rank(singular_values.square())


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
        return Rank(float(asked), bound if options.memory is not None and most else float(asked), bound, limit)
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
    return Rank(min(int(asked), limit), min(int(factorised), limit), limit, limit)
