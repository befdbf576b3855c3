"""The narrow waist between engines and everything above: a batch's gradients."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

__all__ = ["DenseBlock", "GradientBlock"]


class GradientBlock(Protocol):
    """B rows of the gradient matrix J, maybe never formed; it answers for them."""

    def sum(self) -> Tensor:
        """Return the sum of the rows, (P,) in float64."""
        ...

    def squared_sum(self) -> Tensor:
        """Return the sum of the squared rows, (P,) in float64."""
        ...

    def matmat(self, W: Tensor) -> Tensor:
        """Return J W for W (P, L), as (B, L)."""
        ...

    def rmatmat(self, Y: Tensor, add_to: Tensor | None = None) -> Tensor:
        """Return J^T Y for Y (B, L), as (P, L); added in place where a sum is given."""
        ...

    def rows(self) -> Tensor:
        """Return the gradients themselves, (B, P)."""
        ...


class DenseBlock:
    """Gradients that were formed: a matrix of B rows.

    Parameters
    ----------
    gradients : Tensor of shape (B, P)
        One gradient in each row.
    """

    def __init__(self, gradients: Tensor) -> None:
        self.gradients = gradients

    def sum(self) -> Tensor:
        """Return the sum of the rows, (P,) in float64."""
        return self.gradients.sum(0, dtype=torch.float64)

    def squared_sum(self) -> Tensor:
        """Return the sum of the squared rows, (P,) in float64."""
        # Column chunks: the float64 copy of a whole block would double its memory.
        return torch.cat([part.double().square().sum(0) for part in self.gradients.split(2**14, dim=1)])

    def matmat(self, W: Tensor) -> Tensor:
        """Return J W for W (P, L), as (B, L)."""
        return self.gradients @ W

    def rmatmat(self, Y: Tensor, add_to: Tensor | None = None) -> Tensor:
        """Return J^T Y for Y (B, L), as (P, L); added in place where a sum is given."""
        return self.gradients.T @ Y if add_to is None else add_to.addmm_(self.gradients.T, Y)

    def rows(self) -> Tensor:
        """Return the gradients themselves, (B, P)."""
        return self.gradients
