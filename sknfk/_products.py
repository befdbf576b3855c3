"""Matrix products whose inner dimension may be millions of parameters."""

from __future__ import annotations

from torch import Tensor

__all__ = ["long_product"]

SLICE = 2**14  # terms of a sum at once


def long_product(A: Tensor, B: Tensor) -> Tensor:
    """Return A B, summed slice by slice where the sum has many terms.

    For few rows or columns MKL adds all terms to one accumulator, so that float32 loses
    digits with their number. Each slice is a product of its own: one that adds to a matrix
    would go on from what is there.

    Parameters
    ----------
    A : Tensor of shape (..., P)
        A vector or a matrix.
    B : Tensor of shape (P, ...)
        A vector or a matrix.

    Returns
    -------
    Tensor
        As ``A @ B``.
    """
    P = len(B)
    if A.is_cuda or P <= SLICE:
        return A @ B
    total = A[..., :SLICE] @ B[:SLICE]
    for start in range(SLICE, P, SLICE):
        total += A[..., start : start + SLICE] @ B[start : start + SLICE]
    return total
