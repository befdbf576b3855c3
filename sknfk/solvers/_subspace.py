"""Subspace iteration: the plainest solver, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ._operator import Operator, starting_basis
from ._orthonormal import column_norms, complete, descending_eigh, flip_signs, orthonormalise
from ._result import SVDResult, energy_error_estimate
from ._share import RankRule, as_rank_rule

__all__ = ["SubspaceIteration", "SubspaceState"]

AUTO_SWEEPS = 12


@dataclass(frozen=True)
class SubspaceState:
    """What is known after a sweep, and all that the next one needs.

    Attributes
    ----------
    ritz_vectors : Tensor of shape (P, L)
        Orthonormal columns, the best basis of the span visited so far.
    ritz_values : Tensor of shape (L,), float64
        theta, descending: the squared lengths of V times those columns.
    residual_norms : Tensor of shape (L,), float64
        ||V^T V p_j - theta_j p_j||.
    next_block : Tensor of shape (P, L)
        What the next sweep visits.
    estimates : tuple of float
        The error estimate after each sweep.
    converged : bool
    """

    ritz_vectors: Tensor
    ritz_values: Tensor
    residual_norms: Tensor
    next_block: Tensor
    estimates: tuple[float, ...]
    converged: bool

    @property
    def n_sweeps(self) -> int:
        """Visits made to the data."""
        return len(self.estimates)


@dataclass(frozen=True)
class SubspaceIteration:
    """Find the leading singular vectors of V by subspace iteration on V^T V.

    Each sweep multiplies an orthonormal block by V^T V and takes the best basis of
    the block (Rayleigh-Ritz). Algorithm 4.4 of Halko et al. (2011) on the parameter
    side, with an error estimate in place of a number of iterations.

    Cost: one visit for a sweep; six blocks of (P, L) numbers, whatever the number
    of sweeps.

    Parameters
    ----------
    tol : float
        Stop when the error estimate is at or below it.
    max_sweeps : int or "auto"
        "auto" is 12.
    n_oversamples : int
        Columns of the block beyond the components.
    """

    tol: float = 1e-3
    max_sweeps: int | Literal["auto"] = "auto"
    n_oversamples: int = 10

    def __call__(
        self,
        operator: Operator,
        n_components: int | RankRule,
        generator: torch.Generator,
        *,
        start: Tensor | None = None,
        resume: SubspaceState | None = None,
        on_sweep: Callable[[SubspaceState], bool] | None = None,
    ) -> SVDResult:
        """Sweep until the estimate meets `tol`, or `on_sweep` says stop."""
        resume = None if resume is None else self._judged(operator, as_rank_rule(n_components), resume)
        state = resume
        for state in self.states(operator, n_components, generator, start=start, resume=resume):
            if on_sweep is not None and on_sweep(state):
                break
        assert state is not None
        return self.finish(state, n_components, generator)

    def states(
        self,
        operator: Operator,
        n_components: int | RankRule,
        generator: torch.Generator,
        *,
        start: Tensor | None = None,
        resume: SubspaceState | None = None,
    ) -> Iterator[SubspaceState]:
        """Yield the state after each sweep.

        ``start`` (P, any) is spanned by the first block, in place of a random one;
        ``resume`` carries on from a state.
        """
        rule = as_rank_rule(n_components)
        max_sweeps = AUTO_SWEEPS if self.max_sweeps == "auto" else self.max_sweeps
        state = self._start(operator, rule, generator, start) if resume is None else resume
        if state.next_block.shape[1] < rule.max_components:  # more are asked for than when it was made
            width = min(rule.max_components + self.n_oversamples, operator.shape[1])
            state = replace(state, next_block=complete(state.next_block, width, generator))
        while state.n_sweeps < max_sweeps and not state.converged:
            state = self._sweep(operator, rule, state)
            yield state

    def finish(self, state: SubspaceState, n_components: int | RankRule, generator: torch.Generator) -> SVDResult:
        """Cut the Ritz vectors to rank and fix their signs. Cost: no visit."""
        K = as_rank_rule(n_components).rank(state.ritz_values)
        components = complete(state.ritz_vectors, K, generator).T  # (K, P)
        found = len(state.ritz_values[:K])  # fewer than K only where rounding has narrowed the block
        return SVDResult(
            components=flip_signs(components).contiguous(),
            singular_values=torch.nn.functional.pad(state.ritz_values[:K].sqrt(), (0, K - found)),
            error_estimate=state.estimates[-1],
            n_sweeps=state.n_sweeps,
            solver="subspace",
            converged=state.converged,
            estimates=state.estimates,
        )

    def _start(
        self, operator: Operator, rule: RankRule, generator: torch.Generator, start: Tensor | None
    ) -> SubspaceState:
        """Make the first block, orthonormal and of shape (P, L), random but for what is given."""
        n_parameters = operator.shape[1]
        width = min(rule.max_components + self.n_oversamples, n_parameters)
        Q = complete(starting_basis(operator, start), width, generator)
        unknown = torch.zeros(width, dtype=torch.float64, device=operator.device)
        return SubspaceState(Q, unknown, unknown, next_block=Q, estimates=(), converged=False)

    def _sweep(self, operator: Operator, rule: RankRule, state: SubspaceState) -> SubspaceState:
        """Visit the data once: Rayleigh-Ritz on the block, its estimate, the next block."""
        Q = state.next_block
        YtY, CQ = operator.sweep(Q)  # (L, L), (P, L) where C = V^T V
        theta, S = descending_eigh(YtY)  # (L,), (L, L)
        S, scale = S.to(Q.dtype), theta.to(Q.dtype)
        ritz_vectors = Q @ S  # (P, L)
        residual = CQ @ S  # (P, L)
        del CQ
        residual.addcmul_(ritz_vectors, scale, value=-1)
        residual_norms = column_norms(residual)

        state = SubspaceState(
            ritz_vectors=ritz_vectors,
            ritz_values=theta,
            residual_norms=residual_norms,
            next_block=_next_block(ritz_vectors, residual, scale),
            estimates=(*state.estimates, 1.0),
            converged=False,
        )
        return self._judged(operator, rule, state)

    def _judged(self, operator: Operator, rule: RankRule, state: SubspaceState) -> SubspaceState:
        """Return a state with its last estimate for what is asked of it now. Cost: no visit."""
        theta = state.ritz_values
        spans_all = state.ritz_vectors.shape[1] == operator.shape[1]
        estimate = energy_error_estimate(theta, state.residual_norms, rule.rank(theta))
        if state.n_sweeps == 1:
            estimate = 1.0  # the residuals of a random block say nothing yet
        if spans_all:
            estimate = 0.0
        return replace(
            state,
            estimates=(*state.estimates[:-1], estimate),
            converged=spans_all or (estimate <= self.tol and rule.settled(theta)),
        )


def _next_block(ritz_vectors: Tensor, residual: Tensor, ritz_values: Tensor) -> Tensor:
    """Return an orthonormal basis of V^T V times the Ritz vectors, (P, L); the residual is used up."""
    # C p_j / theta_j = p_j + r_j / theta_j: the same span as C Q, but with singular
    # values of 1 and more, so that weak directions are not lost beside strong ones.
    live = ritz_values > torch.finfo(ritz_values.dtype).eps * ritz_values[0]
    steps = residual.mul_(torch.where(live, 1 / torch.where(live, ritz_values, 1.0), 0.0))
    return orthonormalise(steps.add_(ritz_vectors))[0]
