"""Orthonormal columns: inner products in float64, and what is built on them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "complete",
    "descending_eigh",
    "flip_signs",
    "inner",
    "orthonormalise",
    "project_out",
    "random_block",
]

# Entries of one float64 copy of a row chunk: 32 MiB.
CHUNK_ENTRIES = 2**22

# The eigenvalues of a float64 Gram matrix are exact to a few eps of the largest, so
# singular values below some sqrt(eps) of the largest cannot be told from rounding.
RELATIVE_FLOOR = 8 * torch.finfo(torch.float64).eps ** 0.5


def inner(A: Tensor, B: Tensor) -> Tensor:
    """Return A^T B, accumulated in float64.

    Rows go through in chunks, so that no float64 copy of a whole block is made.

    Parameters
    ----------
    A : Tensor of shape (P, L)
    B : Tensor of shape (P, M)

    Returns
    -------
    Tensor of shape (L, M), float64
    """
    if A.dtype == B.dtype == torch.float64:
        return A.T @ B
    n_rows = max(1, CHUNK_ENTRIES // max(A.shape[1], B.shape[1], 1))
    total = torch.zeros(A.shape[1], B.shape[1], dtype=torch.float64, device=A.device)
    for start in range(0, A.shape[0], n_rows):
        rows = slice(start, start + n_rows)
        total.addmm_(A[rows].double().T, B[rows].double())
    return total


def descending_eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Diagonalise a positive semi-definite matrix, largest eigenvalue first.

    Parameters
    ----------
    matrix : Tensor of shape (L, L), float64
        Symmetric but for rounding.

    Returns
    -------
    eigenvalues : Tensor of shape (L,)
        Descending; rounding below zero is cut off.
    eigenvectors : Tensor of shape (L, L)
        In columns.
    """
    if not bool(torch.isfinite(matrix).all()):
        raise ValueError(
            "The products of `operator` must be finite. Got NaN or infinity; look for examples whose row is "
            "not finite, or scale the operator down if its squares overflow."
        )
    eigenvalues, eigenvectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return eigenvalues.flip(0).clamp(min=0.0), eigenvectors.flip(1)


def orthonormalise(R: Tensor, floor: float = 0.0) -> tuple[Tensor, Tensor]:
    """Factor R = Q B with orthonormal Q, leaving out negligible directions.

    The directions are the right singular vectors of R, from its float64 Gram
    matrix. One round leaves the weakest of them orthonormal to a few digits only;
    the second round makes that working precision.

    Parameters
    ----------
    R : Tensor of shape (P, L)
    floor : float
        Directions whose singular value is at or below it are left out.

    Returns
    -------
    Q : Tensor of shape (P, M), M <= L
        Orthonormal columns, in R's dtype; M = 0 if nothing is above the floor.
    B : Tensor of shape (M, L), float64
        Coefficients of R in Q.
    """
    Q, B = _whiten(R, floor)
    Q, B_again = _whiten(Q, floor=0.5)  # a column that lost half its length was rounding, not direction
    return Q, B_again @ B


def _whiten(R: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Do one round of `orthonormalise`."""
    if R.shape[1] == 0:
        return R, torch.zeros(0, 0, dtype=torch.float64, device=R.device)
    squares, directions = descending_eigh(inner(R, R))
    lengths = squares.sqrt()
    keep = lengths > max(floor, RELATIVE_FLOOR * float(lengths[0]))
    lengths, directions = lengths[keep], directions[:, keep]  # (M,), (L, M)
    return R @ (directions / lengths).to(R.dtype), lengths[:, None] * directions.T


def project_out(R: Tensor, blocks: list[Tensor] | tuple[Tensor, ...], *, roughly: bool = False) -> Tensor:
    """Remove from R, in place, its part in the span of orthonormal blocks.

    ``roughly`` takes the coefficients in R's own dtype, which is cheaper: right
    to that dtype's rounding of R, and good for all rounds but the last.

    Parameters
    ----------
    R : Tensor of shape (P, L)
    blocks : sequence of Tensor of shape (P, any)
        Orthonormal columns, and orthogonal to each other.

    Returns
    -------
    Tensor of shape (P, L)
        R itself.
    """
    for W in blocks:
        coefficients = W.T @ R if roughly else inner(W, R).to(R.dtype)
        R.addmm_(W, coefficients, alpha=-1)
    return R


def complete(Q: Tensor, n_columns: int, generator: torch.Generator) -> Tensor:
    """Append random orthonormal columns until there are `n_columns`.

    Parameters
    ----------
    Q : Tensor of shape (P, L)
        Orthonormal columns.
    n_columns : int
        At most P.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Tensor of shape (P, n_columns)
    """
    while Q.shape[1] < n_columns:
        R = random_block(Q.shape[0], n_columns - Q.shape[1], generator, Q.dtype, Q.device)
        new, _ = orthonormalise(project_out(R, [Q]))
        new, _ = orthonormalise(project_out(new, [Q]))  # again: what is left of R may be short
        Q = torch.cat([Q, new], dim=1)
    return Q[:, :n_columns]


def flip_signs(components: Tensor) -> Tensor:
    """Make the entry of largest modulus in each row positive.

    As `sklearn.utils.extmath.svd_flip` with ``u_based_decision=False``.

    Parameters
    ----------
    components : Tensor of shape (K, P)

    Returns
    -------
    Tensor of shape (K, P)
    """
    largest = components.abs().argmax(dim=1, keepdim=True)  # (K, 1)
    return torch.where(components.gather(1, largest) < 0, -components, components)


def random_block(
    n_rows: int, n_columns: int, generator: torch.Generator, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Draw a Gaussian block on the CPU, the same for every device.

    Parameters
    ----------
    n_rows, n_columns : int
    generator : torch.Generator
        On the CPU.
    dtype : torch.dtype
    device : torch.device
        Where the block goes once it is drawn.

    Returns
    -------
    Tensor of shape (n_rows, n_columns)
    """
    return torch.randn(n_rows, n_columns, generator=generator, dtype=dtype).to(device)
