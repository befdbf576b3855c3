"""The solver of the NFK paper, to the letter."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import torch

from ._operator import Operator
from ._orthonormal import flip_signs, random_block
from ._result import SVDResult
from ._share import RankRule, as_rank_rule

__all__ = ["Paper"]


@dataclass(frozen=True)
class Paper:
    """Find the leading singular vectors of V as the NFK paper does.

    Algorithm 4 of Zhang et al. (2022), its errata mended. M = V^T M0 for a Gaussian M0
    on the examples' side; n_iterations times Y = V M and M = qr(V^T Y); the SVD of
    (V M)^T = P' S Q^T gives the components M P'. Kept for parity and benchmarks.

    Cost: 2 n_iterations + 2 visits.

    Parameters
    ----------
    n_oversamples : int
        Columns beyond the components.
    n_iterations : int
        L of the paper.
    """

    n_oversamples: int = 10
    n_iterations: int = 10

    def __call__(self, operator: Operator, n_components: int | RankRule, generator: torch.Generator) -> SVDResult:
        """Run all iterations; the paper has no stopping rule."""
        rule = as_rank_rule(n_components)
        n_examples = operator.shape[0]
        width = min(rule.max_components + self.n_oversamples, *operator.shape)
        M0 = random_block(n_examples, width, generator, operator.dtype, operator.device)  # (N, L)
        # The paper does not orthonormalise here, so the first V^T V M grows as sigma_1^3:
        # float32 overflows from sigma_1 of about 1e12 on.
        M = operator.rmatmat(M0)  # (P, L)
        for _ in range(self.n_iterations):
            Y = operator.matmat(M)  # (N, L)
            M, _ = torch.linalg.qr(operator.rmatmat(Y))  # (P, L)
        if self.n_iterations == 0:
            M, _ = torch.linalg.qr(M)  # the paper has L >= 1; components must be orthonormal all the same
        B = operator.matmat(M)  # (N, L)
        P, S, _ = torch.linalg.svd(B.T, full_matrices=False)  # (L, L), (L,)
        singular_values = S.double()
        K = rule.rank(singular_values.square())
        return SVDResult(
            components=flip_signs((M @ P[:, :K]).T).contiguous(),
            singular_values=singular_values[:K],
            error_estimate=nan,
            n_sweeps=2 * self.n_iterations + 2,
            solver="paper",
            converged=True,
        )
