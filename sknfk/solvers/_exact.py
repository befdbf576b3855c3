"""The exact solver: an eigendecomposition of the Gram matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ._operator import Operator
from ._orthonormal import complete, descending_eigh, flip_signs
from ._result import SVDResult
from ._share import RankRule, as_rank_rule

__all__ = ["Exact"]


@dataclass(frozen=True)
class Exact:
    """Find the leading singular vectors of V from V V^T = U diag(sigma^2) U^T.

    Algorithm 1 of Zhang et al. (2022); components are V^T U / sigma.

    Cost: two visits, one of which forms all (N, N) inner products, and O(N^3) work.
    """

    def __call__(self, operator: Operator, n_components: int | RankRule, generator: torch.Generator) -> SVDResult:
        """Diagonalise the Gram matrix and map its leading vectors to parameters."""
        eigenvalues, U = descending_eigh(operator.gram())  # (N,), (N, N)
        K = as_rank_rule(n_components).rank(eigenvalues)
        singular_values = eigenvalues[:K].sqrt()
        live = singular_values > _floor(operator.dtype) * singular_values[0]
        U = (U[:, :K][:, live] / singular_values[live]).to(operator.dtype)  # (N, at most K)
        # Householder QR keeps the order: rounding in weak columns is removed along strong ones.
        Q, _ = torch.linalg.qr(operator.rmatmat(U))  # (P, at most K)
        return SVDResult(
            components=flip_signs(complete(Q, K, generator).T).contiguous(),
            singular_values=singular_values,
            error_estimate=0.0,
            n_sweeps=2,
            solver="exact",
            converged=True,
        )


def _floor(dtype: torch.dtype) -> float:
    """Return sigma / sigma_1 below which a singular vector is rounding.

    Eigenvalues of a float64 Gram matrix carry an error of some eps sigma_1^2, hence
    singular values one of sqrt(eps) sigma_1 = 1.5e-8 sigma_1. The product V^T U
    carries one of eps sigma_1 in the operator's dtype, 1.2e-7 sigma_1 in float32.
    """
    return max(8 * torch.finfo(torch.float64).eps ** 0.5, 8 * torch.finfo(dtype).eps)
