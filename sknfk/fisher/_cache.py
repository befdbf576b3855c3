"""Gradients kept from sweep to sweep, where reading them again beats computing them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .._torch import exact_arithmetic
from ..batches import Batches, RowLimit
from ..distributed import Peers
from ..gradients import DenseBlock, Engine, GradientBlock
from ._visits import all_blocks, formed

__all__ = ["GradientCache", "cache_bytes"]

# Rows that tell whether a gradient is nearly constant: as many for every batch size.
PIVOT_ROWS = 64


def cache_bytes(n_rows: int, n_parameters: int) -> int:
    """Return the size of a cache, in bytes: two for each entry of J.

    Parameters
    ----------
    n_rows : int
        N.
    n_parameters : int
        P.

    Returns
    -------
    int
        ``2 N P``.
    """
    return 2 * n_rows * n_parameters


class GradientCache:
    """J in bfloat16: computed at the first visit, read at the others.

    Every visit sees the rounded rows, the first included, so a cache that is computed
    again is the same cache. Where gradients are nearly constant, rounding would take
    all that whitening then enlarges: a pivot is taken off such entries first, their
    mean over the first rows. bfloat16 has the exponents of float32, so rows need no
    scale of their own.

    Cost: the first visit, one pass, and 64 rows where batches are smaller; the others,
    N P 2 bytes to read.

    Parameters
    ----------
    engine : Engine
        Gives the gradients of a batch.
    batches : Batches
        The N rows.
    n_parameters : int
        P.
    dtype : dtype
        Of the blocks that are handed out.
    where : str, default="device"
        "device", "ram", or a file that does not exist yet, to be removed by the caller.
    products_in_bfloat16 : bool, default=False
        Whether blocks are handed out as they are kept.

    Attributes
    ----------
    pivot : Tensor of shape (P,)
        What was taken off, 0 for most entries; known from the first visit on.
    """

    def __init__(
        self,
        engine: Engine,
        batches: Batches,
        n_parameters: int,
        dtype: torch.dtype,
        where: str = "device",
        *,
        products_in_bfloat16: bool = False,
    ) -> None:
        self.engine = engine
        self.batches = batches
        self.dtype = dtype
        self.pivot = torch.zeros(n_parameters, dtype=dtype, device=batches.device)
        self._rows = _storage(batches.n_rows, n_parameters, where, batches.device)
        self._is_filled = False
        self._products_in_bfloat16 = products_in_bfloat16
        self._probes = _RoundedProbes()
        self._buffer = torch.empty(0, n_parameters, dtype=dtype, device=batches.device)
        self._has_pivot = not batches.peers.is_alone
        if self._has_pivot:  # the same in all processes: sums over their rows are of what is left
            with exact_arithmetic(batches.device):
                self._find_pivot(batches.peers.first_rows(batches.head(PIVOT_ROWS), PIVOT_ROWS))

    @property
    def rows_at_once(self) -> int:
        """Rows of a block at the next visit."""
        # Products in bfloat16 pay an addition of (P, L) numbers for each block: larger blocks share it.
        share = 8 if self._products_in_bfloat16 and self._is_filled else 1
        return self.batches.batch_size * share

    @property
    def limit(self) -> RowLimit:
        """How many rows are worked on at once."""
        return self.batches.limit

    @property
    def device(self) -> torch.device:
        """Where blocks are handed out."""
        return self.batches.device

    @property
    def peers(self) -> Peers:
        """The processes that hold the other rows."""
        return self.batches.peers

    @property
    def can_skip(self) -> bool:
        """Whether a visit may leave out its first batches, as it fills nothing."""
        return self._is_filled

    def __len__(self) -> int:
        """Return the number of batches of the next visit."""
        return -(-self.batches.n_rows // self.rows_at_once)

    def visits(self, first: int = 0) -> Iterator[Iterator[tuple[GradientBlock, int]]]:
        """Yield the gradients of each batch, less the pivot, and their numbers of rows."""
        if not self._is_filled:
            yield from self._fill()
            self._is_filled = True
            return
        step = self.rows_at_once
        for start in range(first * step, len(self._rows), step):
            yield self._blocks(self._rows[start : start + step])

    def blocks(self) -> Iterator[GradientBlock]:
        """Yield the gradients of each batch, less the pivot."""
        return (block for block, _ in all_blocks(self))

    def fill(self) -> None:
        """Make the first visit, if it is still to be made.

        The pivot is known then. Cost: at most one pass.
        """
        if not self._is_filled:
            with exact_arithmetic(self.device):  # as where it is filled on the way
                for _ in self.visits():
                    pass

    def slice(self, start: int, stop: int) -> GradientCache:
        """Return the cache of some rows, filled. Cost: none, or the first visit."""
        self.fill()
        part = copy.copy(self)
        part.batches, part._rows = self.batches.slice(start, stop), self._rows[start:stop]
        return part

    def _fill(self) -> Iterator[Iterator[tuple[GradientBlock, int]]]:
        first = self.batches.head(PIVOT_ROWS)
        if len(first) > self.batches.batch_size and not self._has_pivot:
            self._find_pivot(first)
        start = 0
        for x in self.batches:
            gradients = self._memory(len(x))  # (B, P)
            filled = 0
            for block, n_rows in formed(self.engine, x, self.limit):
                block.rows(out=gradients[filled : filled + n_rows])
                filled += n_rows
            if start == 0 and len(first) <= len(gradients) and not self._has_pivot:
                self.pivot.copy_(_nearly_constant([DenseBlock(gradients[:PIVOT_ROWS])], len(first)))
            kept = self._rows[start : start + len(gradients)]
            kept.copy_(gradients.sub_(self.pivot))
            start += len(gradients)
            yield self._blocks(kept)

    def _find_pivot(self, first: Tensor) -> None:
        parts = first.split(self.batches.batch_size)
        blocks = (block for x in parts for block, _ in formed(self.engine, x, self.limit))
        self.pivot.copy_(_nearly_constant(blocks, len(first)))

    def _blocks(self, kept: Tensor) -> Iterator[tuple[GradientBlock, int]]:
        for part in self.limit.split(kept):
            yield self._block(part), len(part)

    def _block(self, kept: Tensor) -> GradientBlock:
        if self._products_in_bfloat16:
            return _RoundedBlock(kept.to(self.batches.device, non_blocking=True), self._probes)
        return DenseBlock(self._memory(len(kept)).copy_(kept))

    def _memory(self, n_rows: int) -> Tensor:
        """Return memory for some rows, the same for all blocks: fresh pages cost more than a product."""
        if len(self._buffer) < n_rows:
            self._buffer = torch.empty(n_rows, self._rows.shape[1], dtype=self.dtype, device=self.batches.device)
        return self._buffer[:n_rows]


class _RoundedProbes:
    """The probes of a sweep in bfloat16, converted once for all its blocks."""

    def __init__(self) -> None:
        self._given: Tensor | None = None
        self._rounded: Tensor | None = None

    def __call__(self, W: Tensor) -> Tensor:
        if self._rounded is None or self._given is not W:
            self._given, self._rounded = W, W.bfloat16()
        return self._rounded


class _RoundedBlock(DenseBlock):
    """Gradients in bfloat16, whose products are in bfloat16 too; sums over blocks are not."""

    def __init__(self, gradients: Tensor, probes: _RoundedProbes) -> None:
        super().__init__(gradients)
        self._probes = probes

    def matmat(self, W: Tensor) -> Tensor:
        """Return J W for W (P, L), as (B, L)."""
        return (self.gradients @ self._probes(W)).to(W.dtype)

    def rmatmat(self, Y: Tensor, add_to: Tensor | None = None) -> Tensor:
        """Return J^T Y for Y (B, L), as (P, L); added in place where a sum is given."""
        product = self.gradients.T @ Y.bfloat16()
        return product.to(Y.dtype) if add_to is None else add_to.add_(product)


def _nearly_constant(blocks: Iterable[GradientBlock], n_rows: int) -> Tensor:
    """Return the mean where it is more than 4 standard deviations from 0, else 0."""
    if n_rows == 1:
        return torch.zeros(())
    total = total_square = torch.zeros(())
    for block in blocks:
        total, total_square = total + block.sum(), total_square + block.squared_sum()
    mean = total / n_rows
    variance = total_square / n_rows - mean.square()
    return torch.where(mean.square() > 16 * variance, mean, 0.0)


def _storage(n_rows: int, n_parameters: int, where: str, device: torch.device) -> Tensor:
    shape = (n_rows, n_parameters)
    if where == "device":
        return torch.empty(shape, dtype=torch.bfloat16, device=device)
    if where == "ram":
        return torch.empty(shape, dtype=torch.bfloat16, pin_memory=device.type == "cuda")
    size = n_rows * n_parameters
    if size == 0:  # no file can be mapped
        return torch.empty(shape, dtype=torch.bfloat16)
    return torch.from_file(where, shared=True, size=size, dtype=torch.bfloat16).view(shape)
