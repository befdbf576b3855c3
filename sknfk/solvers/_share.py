"""How many components are asked for: a number, or a share of the trace."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["FixedRank", "RankRule", "Share", "as_rank_rule", "project_rank", "warn_share_missed"]

# A share is grown block by block; wider first blocks would waste sweeps on easy shares.
MAX_SHARE_BLOCK = 128


class RankRule(Protocol):
    """A rule that names the rank K once Ritz values are known."""

    @property
    def max_components(self) -> int:
        """The largest K that the rule can name."""
        ...

    @property
    def block_width(self) -> int:
        """Columns of a block, before oversampling, that suit the rule."""
        ...

    def rank(self, ritz_values: Tensor) -> int:
        """Return K for these Ritz values (descending)."""
        ...

    def reached(self, ritz_values: Tensor) -> bool:
        """Return whether these Ritz values give what was asked for."""
        ...

    def settled(self, ritz_values: Tensor) -> bool:
        """Return whether a larger basis could not change K, were these values exact."""
        ...


@dataclass(frozen=True)
class FixedRank:
    """Ask for a number of components, whatever the spectrum.

    Parameters
    ----------
    n_components : int
    """

    n_components: int

    @property
    def max_components(self) -> int:
        """The largest K that the rule can name."""
        return self.n_components

    @property
    def block_width(self) -> int:
        """Columns of a block, before oversampling, that suit the rule."""
        return self.n_components

    def rank(self, ritz_values: Tensor) -> int:
        """Return K for these Ritz values."""
        return self.n_components

    def reached(self, ritz_values: Tensor) -> bool:
        """Return True: a number of components can always be given."""
        return True

    def settled(self, ritz_values: Tensor) -> bool:
        """Return True: K is known beforehand."""
        return True


@dataclass(frozen=True)
class Share:
    """Ask for the smallest K that reaches a share of the trace.

    The sum of the leading K squared singular values is compared with it.

    Ritz values never exceed the eigenvalues, so K errs to the generous side until
    they have converged.

    Parameters
    ----------
    share : float in (0, 1)
    trace : float
        ||V||_F^2.
    max_components : int
        K stops there, short of the share.
    """

    share: float
    trace: float
    max_components: int

    @property
    def block_width(self) -> int:
        """Columns of a block, before oversampling, that suit the rule."""
        return min(self.max_components, MAX_SHARE_BLOCK)

    def rank(self, ritz_values: Tensor) -> int:
        """Return the smallest K that reaches the share, else as many as there may be."""
        available = min(len(ritz_values), self.max_components)
        missing = ritz_values[:available].double().cumsum(0) < self.share * self.trace
        return max(1, min(int(missing.sum()) + 1, available))

    def reached(self, ritz_values: Tensor) -> bool:
        """Return whether the leading `max_components` values reach the share."""
        return float(ritz_values[: self.max_components].double().sum()) >= self.share * self.trace

    def settled(self, ritz_values: Tensor) -> bool:
        """Return whether the share is reached, or out of reach of `max_components`."""
        return self.reached(ritz_values) or len(ritz_values) >= self.max_components


def as_rank_rule(n_components: int | RankRule) -> RankRule:
    """Turn a number of components into a rule; pass a rule through."""
    return FixedRank(n_components) if isinstance(n_components, int) else n_components


def project_rank(eigenvalues: Tensor, share: float, trace: float, limit: int) -> int:
    """Predict the K that a share of the trace needs, from a power law.

    lambda_j = a j^-p is fitted by least squares in log-log scale to the tail half
    of the eigenvalues and summed beyond them until the share is reached.

    Cost: no visit.

    Parameters
    ----------
    eigenvalues : Tensor of shape (K,)
        Leading eigenvalues of V^T V, descending.
    share, trace : float
        The share asked for, of the trace ||V||_F^2.
    limit : int
        min(N, P): no prediction exceeds it.

    Returns
    -------
    int
    """
    eigenvalues = eigenvalues.double().cpu()
    cumulative = eigenvalues.cumsum(0)
    if float(cumulative[-1]) >= share * trace:
        return min(int((cumulative < share * trace).sum()) + 1, limit)
    index = torch.arange(1, len(eigenvalues) + 1, dtype=torch.float64)
    tail = (index > len(eigenvalues) // 2) & (eigenvalues > 0)
    if int(tail.sum()) < 2:
        return limit
    x, y = index[tail].log(), eigenvalues[tail].log()
    slope = float(((x - x.mean()) * y).sum() / ((x - x.mean()) ** 2).sum())
    later = torch.arange(len(eigenvalues) + 1, limit + 1, dtype=torch.float64)
    law = torch.exp(y.mean() + slope * (later.log() - x.mean()))
    missing = (cumulative[-1] + law.cumsum(0)) < share * trace
    return min(len(eigenvalues) + int(missing.sum()) + 1, limit)


def warn_share_missed(singular_values: Tensor, rule: Share, limit: int) -> None:
    """Say which share was reached, and how many components would do.

    Parameters
    ----------
    singular_values : Tensor of shape (K,)
        Descending.
    rule : Share
        What was asked for.
    limit : int
        min(N, P): no projection exceeds it.
    """
    eigenvalues = singular_values.square()
    share = float(eigenvalues.sum()) / rule.trace
    projected = project_rank(eigenvalues, rule.share, rule.trace, limit)
    warnings.warn(
        f"`max_components`={rule.max_components} must suffice for a share of {rule.share} of the trace. "
        f"Got {share:.4f} with {len(eigenvalues)} components, and the decay of the spectrum projects "
        f"{projected}; raise `max_components` or ask for a smaller share.",
        UserWarning,
        stacklevel=3,
    )
