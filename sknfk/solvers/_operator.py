"""What a solver may ask of V: its shape, its products and one fused visit."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ..distributed import ALONE, Peers
from ._orthonormal import held_rows, inner, orthonormalise
from ._signs import SignedSums, SparseSigns

__all__ = ["MatrixOperator", "Operator", "as_operator", "starting_basis"]


@runtime_checkable
class Operator(Protocol):
    """A matrix V of shape (N, P) that is seen through its products alone.

    Each method visits the data once, whatever the number of columns L. What it
    returns belongs to the caller, who may overwrite it.

    Attributes
    ----------
    shape : tuple of int
        (N, P).
    dtype : torch.dtype
        float32 or float64: that of the blocks which go in and come out.
    device : torch.device
        Where those blocks live.
    """

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def matmat(self, W: Tensor) -> Tensor:
        """Return V W, of shape (N, L), for W of shape (P, L). Cost: one visit."""
        ...

    def rmatmat(self, Y: Tensor) -> Tensor:
        """Return V^T Y, of shape (P, L), for Y of shape (N, L). Cost: one visit."""
        ...

    def sweep(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Return Y^T Y (L, L), float64, and V^T Y (P, L), for Y = V W. Cost: one visit."""
        ...

    def gram(self) -> Tensor:
        """Return V V^T, of shape (N, N), in float64. Cost: one visit."""
        ...


class MatrixOperator:
    """A dense matrix as an `Operator`, which counts the visits made to it.

    Parameters
    ----------
    matrix : Tensor of shape (N, P)
        float32 or float64.
    peers : Peers, optional
        Processes over which the rows are spread: the matrix is then of this process's,
        products with P rows are sums over those of all, and ``gram`` is of its own.

    Attributes
    ----------
    n_visits : int
        Products, sweeps and Gram matrices asked for so far, one visit each.
    """

    def __init__(self, matrix: Tensor, peers: Peers = ALONE) -> None:
        self.matrix = matrix
        self.peers = peers
        n_rows = len(matrix) if peers.is_alone else sum(peers.n_rows)
        self.shape: tuple[int, int] = (n_rows, matrix.shape[1])
        self.dtype = matrix.dtype
        self.device = matrix.device
        self.n_visits = 0

    def matmat(self, W: Tensor) -> Tensor:
        """Return V W, of shape (N, L). Cost: one visit."""
        self.n_visits += 1
        return self.matrix @ W

    def rmatmat(self, Y: Tensor) -> Tensor:
        """Return V^T Y, of shape (P, L). Cost: one visit."""
        self.n_visits += 1
        product = self.matrix.T @ Y
        self.peers.total([product])
        return product

    def sweep(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Return Y^T Y (L, L), float64, and V^T Y (P, L), for Y = V W. Cost: one visit."""
        self.n_visits += 1
        Y = self.matrix @ W  # (N, L)
        gram, product = inner(Y, Y), self.matrix.T @ Y
        self.peers.total([gram, product])
        return gram, product

    def gram(self) -> Tensor:
        """Return V V^T, of shape (N, N), in float64. Cost: one visit."""
        self.n_visits += 1
        return inner(self.matrix.T, self.matrix.T)

    def sketch(self, signs: SparseSigns) -> Tensor:
        """Return V S, of shape (N, w). Cost: one visit."""
        self.n_visits += 1
        ones = torch.ones(self.shape[1], dtype=self.dtype, device=self.device)
        return SignedSums(signs, ones).of([(0, self.matrix)])


def as_operator(operator: Operator | Tensor | np.ndarray) -> Operator:
    """Wrap a matrix; pass an operator through. Cost: none."""
    if isinstance(operator, np.ndarray):
        operator = _tensor(operator)
    if isinstance(operator, Tensor):
        return MatrixOperator(_checked(operator))
    if not isinstance(operator, Operator):
        raise TypeError(
            "`operator` must be a 2-D matrix or have `shape`, `dtype`, `device`, `matmat`, `rmatmat`, "
            f"`sweep` and `gram`. Got {type(operator).__name__}; wrap a dense matrix in `MatrixOperator`."
        )
    return operator


def _tensor(array: np.ndarray) -> Tensor:
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"`operator` must hold float32 or float64 numbers. Got {array.dtype}; convert it with `.astype`."
        )
    return torch.from_numpy(array.copy())  # torch cannot view read-only or reversed arrays


def _checked(matrix: Tensor) -> Tensor:
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            "`operator` must be a matrix of shape (N, P) with no empty side. "
            f"Got shape {tuple(matrix.shape)}; pass one row per example."
        )
    if matrix.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"`operator` must hold float32 or float64 numbers. Got {matrix.dtype}; cast it by `.float()`.")
    if not bool(torch.isfinite(matrix).all()):
        n_bad = int((~torch.isfinite(matrix)).sum())
        raise ValueError(f"`operator` must be finite. Got {n_bad} entries that are NaN or infinite; remove those rows.")
    return matrix.detach()


def starting_basis(operator: Operator, start: Tensor | None) -> Tensor:
    """Return an orthonormal basis of the block to start from; no columns if there is none.

    Parameters
    ----------
    operator : Operator
        Of shape (N, P).
    start : Tensor of shape (P, any) or None

    Returns
    -------
    Tensor of shape (P, at most any)
    """
    if start is None:
        return torch.empty(held_rows(operator.shape[1]), 0, dtype=operator.dtype, device=operator.device)
    return orthonormalise(start)[0]
