"""A solver's first block, out of the pass that the statistics cost anyway."""

from __future__ import annotations

import torch
from torch import Tensor

from ..gradients import GradientBlock

__all__ = ["RangeSample"]


class RangeSample:
    """V^T J G for Gaussian probes G: a sample of V's range, before V is known.

    Centring and whitening act after the sum, ``V^T Y = d (J^T Y - z 1^T Y)`` with
    Y = J G, so the pass that estimates z and d gathers ``J^T Y`` and ``1^T Y``. As
    V^T 1 = 0, it is V^T V applied to the block D^{-1} G: one power step that costs
    no pass.

    Parameters
    ----------
    probes : Tensor of shape (P, L)
        Gaussian columns G.
    """

    def __init__(self, probes: Tensor) -> None:
        self.probes = probes
        self.product = torch.zeros_like(probes)  # J^T Y
        self.column_sum = torch.zeros_like(probes[0])  # 1^T Y

    @property
    def sums(self) -> dict[str, Tensor]:
        """What ``add`` adds to."""
        return {"product": self.product, "column_sum": self.column_sum}

    def add(self, block: GradientBlock) -> None:
        """Take in the gradients of a batch."""
        Y = block.matmat(self.probes)  # (B, L)
        block.rmatmat(Y, add_to=self.product)
        self.column_sum += Y.sum(0)

    def finish(self, mean_score: Tensor, scale: Tensor) -> Tensor:
        """Return V^T J G, (P, L), once z and d are known; the sample is used up."""
        mean_score, scale = mean_score.to(self.probes.dtype), scale.to(self.probes.dtype)
        return self.product.addr_(mean_score, self.column_sum, alpha=-1).mul_(scale[:, None])
