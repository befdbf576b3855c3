"""Orthonormal columns: inner products in float64, and what is built on them."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

import torch
from torch import Tensor

from ..distributed import ALONE, Peers

__all__ = [
    "column_norms",
    "complete",
    "descending_eigh",
    "flip_signs",
    "held_rows",
    "inner",
    "inner_in_chunks",
    "orthonormalise",
    "project_out",
    "random_block",
    "reorthonormalise",
    "rows_in_all",
    "spread_over",
    "whiten",
]

# Entries of one float64 copy of a row chunk: 32 MiB.
CHUNK_ENTRIES = 2**22

# Rows of a product in float32 whose sum goes on in float64: the error is that of 2,048 rows, not of
# all of them (2e-8 of the norm in place of 1e-6 for 270,000), at half the time of float64.
CHUNK_ROWS = 2**11

# The eigenvalues of a float64 Gram matrix are exact to a few eps of the largest, so
# singular values below some sqrt(eps) of the largest cannot be told from rounding.
RELATIVE_FLOOR = 8 * torch.finfo(torch.float64).eps ** 0.5

_SPREAD: contextvars.ContextVar[Peers] = contextvars.ContextVar("spread", default=ALONE)


@contextlib.contextmanager
def spread_over(peers: Peers) -> Iterator[None]:
    """Let the P rows of blocks be spread over processes, which sum inner products.

    Parameters
    ----------
    peers : Peers
        They know how many rows each has.

    Yields
    ------
    None
        Nothing.
    """
    token = _SPREAD.set(peers)
    try:
        yield
    finally:
        _SPREAD.reset(token)


def held_rows(n_rows: int) -> int:
    """Return how many of so many rows of a block are held in this process."""
    peers = _SPREAD.get()
    return n_rows if peers.is_alone else peers.own(peers.n_rows)


def rows_in_all(block: Tensor) -> int:
    """Return how many rows a block has, with those of other processes."""
    peers = _SPREAD.get()
    return block.shape[0] if peers.is_alone else sum(peers.n_rows)


def _summed(product: Tensor) -> Tensor:
    _SPREAD.get().total([product])
    return product


def column_norms(R: Tensor) -> Tensor:
    """Return the lengths of a block's columns, (L,) in float64."""
    return _summed(torch.linalg.vector_norm(R, dim=0, dtype=torch.float64).square()).sqrt()


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
        return _summed(A.T @ B)
    n_rows = max(1, CHUNK_ENTRIES // max(A.shape[1], B.shape[1], 1))
    total = torch.zeros(A.shape[1], B.shape[1], dtype=torch.float64, device=A.device)
    for start in range(0, A.shape[0], n_rows):
        a = A[start : start + n_rows].double()
        b = a if B is A else B[start : start + n_rows].double()
        total.addmm_(a.T, b)
    return _summed(total)


def inner_in_chunks(A: Tensor, B: Tensor) -> Tensor:
    """Return A^T B, products in A's dtype and their sum in float64.

    For coefficients that need no digits of their smallest parts: projections, and
    Gram matrices near the identity.

    Parameters
    ----------
    A : Tensor of shape (P, L)
    B : Tensor of shape (P, M)

    Returns
    -------
    Tensor of shape (L, M), float64
    """
    if A.dtype == torch.float64:
        return _summed(A.T @ B)
    total = torch.zeros(A.shape[1], B.shape[1], dtype=torch.float64, device=A.device)
    for a, b in zip(A.split(CHUNK_ROWS), B.split(CHUNK_ROWS), strict=True):
        total += a.T @ b
    return _summed(total)


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
    # LAPACK hands them out by columns; a product with a copy by rows may differ in its last digits.
    return eigenvalues.flip(0).clamp(min=0.0), eigenvectors.flip(1).contiguous()


def orthonormalise(R: Tensor, floor: float = 0.0, gram: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Factor R = Q B with orthonormal Q, leaving out negligible directions.

    The directions are the right singular vectors of R, from its float64 Gram
    matrix. One round leaves the weakest of them orthonormal to a few digits only;
    the second round makes that working precision.

    Parameters
    ----------
    R : Tensor of shape (P, L)
    floor : float
        Directions whose singular value is at or below it are left out.
    gram : Tensor of shape (L, L), float64, or None
        R^T R, where it is known.

    Returns
    -------
    Q : Tensor of shape (P, M), M <= L
        Orthonormal columns, in R's dtype; M = 0 if nothing is above the floor.
    B : Tensor of shape (M, L), float64
        Coefficients of R in Q.
    """
    R, B = whiten(R, inner(R, R) if gram is None else gram, floor)  # R is not needed again
    Q, B_again = reorthonormalise(R)
    return Q, B_again @ B


def reorthonormalise(Q: Tensor) -> tuple[Tensor, Tensor]:
    """Do a last round on columns that are nearly orthonormal.

    Parameters
    ----------
    Q : Tensor of shape (P, L)

    Returns
    -------
    Q : Tensor of shape (P, M), M <= L
    B : Tensor of shape (M, L), float64
        Coefficients of the old columns in the new.
    """
    # A column that lost half its length was rounding, not direction.
    return whiten(Q, inner_in_chunks(Q, Q), floor=0.5)


def whiten(R: Tensor, gram: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """Do one round of `orthonormalise`, with R^T R given."""
    if R.shape[1] == 0:
        return R, torch.zeros(0, 0, dtype=torch.float64, device=R.device)
    squares, directions = descending_eigh(gram)
    lengths = squares.sqrt()
    keep = lengths > max(floor, RELATIVE_FLOOR * float(lengths[0]))
    lengths, directions = lengths[keep], directions[:, keep]  # (M,), (L, M)
    return R @ (directions / lengths).to(R.dtype), lengths[:, None] * directions.T


def project_out(R: Tensor, blocks: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    """Remove from R, in place, its part in the span of orthonormal blocks.

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
        R.addmm_(W, inner_in_chunks(W, R).to(R.dtype), alpha=-1)
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
        R = random_block(rows_in_all(Q), n_columns - Q.shape[1], generator, Q.dtype, Q.device)
        if len(R) > len(Q):
            R = R[_SPREAD.get().part].clone()
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
    entries = torch.cat(_SPREAD.get().gathered(components.gather(1, largest).cpu(), "largest entries"), dim=1)
    entry = entries.gather(1, entries.abs().argmax(dim=1, keepdim=True)).to(components.device)
    return torch.where(entry < 0, -components, components)


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
