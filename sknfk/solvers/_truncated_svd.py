"""The door to all solvers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from ._krylov import KrylovState
from ._operator import MatrixOperator, Operator, as_operator
from ._orthonormal import held_rows
from ._result import SVDResult
from ._select import SOLVERS, make_solver, select_solver, starts_from_a_block
from ._share import FixedRank, RankRule, Share, warn_share_missed
from ._subspace import SubspaceState

__all__ = ["truncated_svd"]

DEFAULT_MAX_COMPONENTS = 1024


def truncated_svd(
    operator: Operator | Tensor | np.ndarray,
    n_components: int | float,
    *,
    solver: str = "auto",
    tol: float = 1e-3,
    max_sweeps: int | Literal["auto"] = "auto",
    n_oversamples: int = 10,
    sketch_width: int | Literal["auto"] = "auto",
    generator: torch.Generator | None = None,
    trace: float | None = None,
    max_components: int | None = None,
    start: Tensor | None = None,
    resume: KrylovState | SubspaceState | None = None,
    on_sweep: Callable[[Any], bool] | None = None,
) -> SVDResult:
    """Find the leading right singular vectors of a matrix seen through products.

    Cost: `n_sweeps` visits to the data, stated in the result.

    Parameters
    ----------
    operator : Operator, or Tensor or ndarray of shape (N, P)
    n_components : int or float in (0, 1)
        K, or the share of the trace ||V||_F^2 that the components are to reach.
    solver : str
        "auto" follows :func:`select_solver`; else one of `SOLVERS`.
    tol : float
        Share of the leading energy that may be lost, by estimate.
    max_sweeps : int or "auto"
        For "krylov" ("auto" is 6, and more for a share that needs several blocks)
        and "subspace" (12).
    n_oversamples : int
        Columns of a block beyond the components.
    sketch_width : int or "auto"
        Columns of the sketch of "sketch" and "sketch-refined"; "auto" is
        max(8192, 16 K).
    generator : torch.Generator or None
        On the CPU. None is a fresh ``torch.Generator().manual_seed(0)``, so that
        equal calls give equal results; the global generator is never used.
    trace : float or None
        ||V||_F^2, needed for a share; None computes it from a dense matrix.
    max_components : int or None
        The most components that a share may take; None is min(N, P, 1024).
    start : Tensor of shape (P, any) or None
        What the first block of "krylov" or "subspace" spans, completed at random to
        its width; None is all random. It should be generic, as V^T Y of a random Y:
        a block without a leading direction never finds it. The other solvers take
        none.
    resume : KrylovState, SubspaceState or None
        A state that `on_sweep` was given, of the same operator and solver, to go on
        from. It may have been made for another `n_components` or `tol`: what is known of
        it is judged by those given here.
    on_sweep : callable or None
        Takes the state after each sweep of "krylov" or "subspace", all that going on
        needs; solving ends where it returns True.

    Returns
    -------
    SVDResult

    Warns
    -----
    ConvergenceWarning
        If the solver stops before its tolerance is met.
    UserWarning
        If `max_components` cannot reach the share.
    """
    operator = as_operator(operator)
    _validate_options(solver, tol, max_sweeps, n_oversamples, generator)
    rule = _rank_rule(operator, n_components, trace, max_components)
    if solver == "auto":
        solver, _ = select_solver(operator.shape, rule.max_components, n_oversamples)
    if start is not None:
        _validate_start(solver, operator, start)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    watch = _OnSweep(on_sweep)
    solve = make_solver(solver, tol, max_sweeps, n_oversamples, sketch_width)
    if not starts_from_a_block(solver):
        result = solve(operator, rule, generator)
    else:
        result = solve(operator, rule, generator, start=start, resume=resume, on_sweep=watch)
    if not (result.converged or watch.stopped):
        _warn_not_converged(result, tol)
    if isinstance(rule, Share) and not rule.reached(result.singular_values.square()):
        warn_share_missed(result.singular_values, rule, min(operator.shape))
    return result


class _OnSweep:
    """Asks the caller after each sweep, and remembers whether to stop."""

    def __init__(self, on_sweep: Callable[[Any], bool] | None) -> None:
        self.on_sweep = on_sweep
        self.stopped = False

    def __call__(self, state: Any) -> bool:
        self.stopped = self.on_sweep is not None and bool(self.on_sweep(state))
        return self.stopped


def _rank_rule(
    operator: Operator, n_components: int | float, trace: float | None, max_components: int | None
) -> RankRule:
    """Turn what is asked for into a rule, or say what is wrong with it."""
    limit = min(operator.shape)
    if isinstance(n_components, Integral) and not isinstance(n_components, bool):
        return FixedRank(_within("n_components", n_components, limit))
    if not isinstance(n_components, Real) or not 0 < n_components < 1:
        raise ValueError(
            "`n_components` must be an int of at least 1 or a float in (0, 1). "
            f"Got {n_components!r}; pass a number of components, or a share of the trace."
        )
    most = min(limit, DEFAULT_MAX_COMPONENTS) if max_components is None else max_components
    return Share(float(n_components), _trace(operator, trace), _within("max_components", most, limit))


def _within(name: str, value: object, limit: int) -> int:
    """Return a number of components as an int between 1 and min(N, P)."""
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < 1:
        raise ValueError(f"`{name}` must be an int of at least 1. Got {value!r}; pass a number of components.")
    if int(value) > limit:
        raise ValueError(
            f"`{name}` must be at most min(n_samples, n_parameters) = {limit}. Got {value}; lower it or pass more data."
        )
    return int(value)


def _trace(operator: Operator, trace: float | None) -> float:
    """Return ||V||_F^2 as given, or from a dense matrix."""
    if trace is None and isinstance(operator, MatrixOperator):
        return float(torch.linalg.vector_norm(operator.matrix, dtype=torch.float64) ** 2)
    if trace is None:
        raise ValueError(
            "`trace` must be given when `n_components` is a share. Got None; pass ||V||_F^2, or an int `n_components`."
        )
    if not 0 <= trace < float("inf"):
        raise ValueError(f"`trace` must be finite and not negative. Got {trace}; pass ||V||_F^2.")
    return float(trace)


def _validate_start(solver: str, operator: Operator, start: Tensor) -> None:
    if not starts_from_a_block(solver):
        raise ValueError(
            f"`start` must be None for solver={solver!r}. Only 'krylov' and 'subspace' take one; leave it out."
        )
    if start.ndim != 2 or start.shape[0] != held_rows(operator.shape[1]) or not bool(torch.isfinite(start).all()):
        raise ValueError(
            f"`start` must be finite and of shape ({operator.shape[1]}, any), one row per parameter. "
            f"Got shape {tuple(start.shape)}; transpose it, or leave it out for a random one."
        )


def _validate_options(
    solver: str,
    tol: float,
    max_sweeps: int | Literal["auto"],
    n_oversamples: int,
    generator: torch.Generator | None,
) -> None:
    """Refuse in words what no solver could serve."""
    if solver != "auto" and solver not in SOLVERS:
        raise ValueError(f"`solver` must be 'auto' or one of {SOLVERS}. Got {solver!r}; choose one of them.")
    if not isinstance(tol, Real) or not 0 <= tol < 1:
        raise ValueError(f"`tol` must be in [0, 1). Got {tol!r}; 1e-3 loses a thousandth of the leading energy.")
    if max_sweeps != "auto" and not (isinstance(max_sweeps, Integral) and max_sweeps >= 1):
        raise ValueError(f"`max_sweeps` must be 'auto' or an int of at least 1. Got {max_sweeps!r}; pass 'auto'.")
    if not isinstance(n_oversamples, Integral) or n_oversamples < 0:
        raise ValueError(f"`n_oversamples` must be an int of at least 0. Got {n_oversamples!r}; 10 serves well.")
    if generator is not None and (not isinstance(generator, torch.Generator) or generator.device.type != "cpu"):
        raise TypeError(
            f"`generator` must be a torch.Generator on the CPU or None. Got {generator!r}; "
            "pass torch.Generator().manual_seed(seed)."
        )


def _warn_not_converged(result: SVDResult, tol: float) -> None:
    """Say how far the solver came, and what would take it further."""
    remedy = "raise `max_sweeps` or `tol`"
    if result.estimates:
        reached = f"reached an error estimate of {result.error_estimate:.1e}, above tol={tol:.1e},"
    else:
        reached = f"did not meet tol={tol:.1e}"
        remedy = "raise `tol` or use solver='krylov'"
    warnings.warn(
        f"solver='{result.solver}' {reached} after {result.n_sweeps} sweeps; {remedy}.",
        ConvergenceWarning,
        stacklevel=3,
    )
