"""What a solver returns, and how far from the truth it may be."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._signs import SparseSigns

__all__ = ["SVDResult", "energy_error_estimate"]


@dataclass(frozen=True)
class SVDResult:
    """The leading right singular vectors and singular values of an operator.

    Attributes
    ----------
    components : Tensor of shape (K, P)
        Orthonormal rows; the entry of largest modulus in each is positive.
    singular_values : Tensor of shape (K,), float64
        Descending.
    error_estimate : float
        Estimated share of the energy of the true leading K that is lost; 0 if
        exact, nan where the solver has no estimate.
    n_sweeps : int
        Visits made to the data.
    solver : str
        Name of the solver.
    converged : bool
        Whether the solver met its tolerance.
    estimates : tuple of float
        The estimate after each sweep, where there is one.
    sketch : SparseSigns of shape (P, w) or None
        S, where the components (K, w) are of V S and not of V.
    """

    components: Tensor
    singular_values: Tensor
    error_estimate: float
    n_sweeps: int
    solver: str
    converged: bool
    estimates: tuple[float, ...] = ()
    sketch: SparseSigns | None = None


def energy_error_estimate(
    ritz_values: Tensor, residual_norms: Tensor, n_components: int, outside: float | None = None
) -> float:
    """Estimate the share of the leading energy that Ritz vectors lose.

    est = sum_j min(1, r_j^2 / ((theta_j - mu) theta_j)) theta_j / sum_j theta_j

    over the leading K Ritz values of V^T V, where r_j^2 / gap is the quadratic
    residual bound on one eigenvalue (e.g. Theorem 11.7.1 of Parlett, 1998). The gap is
    to what is outside the basis: mu is the next Ritz value theta_{K+1}, 0 where there
    is none, or the largest eigenvalue outside where a smaller bound of it is known.

    Cost: no visit.

    Parameters
    ----------
    ritz_values : Tensor of shape (L,)
        theta, descending.
    residual_norms : Tensor of shape (L,)
        r_j = ||V^T V p_j - theta_j p_j||.
    n_components : int
        K. A basis with fewer vectors than that says nothing: the estimate is 1.
    outside : float or None
        A bound of V^T V outside the basis; None takes theta_{K+1}.

    Returns
    -------
    float
        Between 0 and 1.
    """
    if len(ritz_values) < n_components:
        return 1.0
    theta = ritz_values[:n_components].double()
    following = ritz_values[n_components : n_components + 1].double().sum()  # 0 if there is none
    if outside is not None:
        following = following.clamp_max(outside)
    allowed = (theta - following) * theta
    squares = residual_norms[:n_components].double() ** 2
    lost = torch.where(squares < allowed, squares / allowed, 1.0)  # no gap: all of it may be lost
    total = float(theta.sum())
    return float((lost * theta).sum()) / total if total > 0 else 0.0
