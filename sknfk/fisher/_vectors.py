"""The matrix of Fisher vectors, seen only through products."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor

from .._products import long_product
from .._sklearn import to_tensor
from .._torch import exact_arithmetic
from ..batches import Batches
from ..distributed import Peers
from ..gradients import Engine, GradientBlock
from ..solvers import SignedSums, SparseSigns
from ._cache import GradientCache
from ._product_gram import product_gram
from ._visits import FormedRows, RowSource, Unwatched, Watch, all_blocks, on_less_memory, visit

__all__ = ["FisherVectors", "gram_bytes", "gram_matrix"]

FORMED_BYTES = 2**28  # what a Gram matrix may keep: formed Fisher vectors, or the factors of all rows
SLICE_COLUMNS = 2**14  # of components that are read at once
COPY_ENTRIES = 2**22  # of a float64 copy in a product: 32 MiB


Params = ParamSpec("Params")
Result = TypeVar("Result")


def _exactly(
    product: Callable[Concatenate[FisherVectors, Params], Result],
) -> Callable[Concatenate[FisherVectors, Params], Result]:
    """Compute a product in full precision, with gradients on, whatever the caller has set."""

    @functools.wraps(product)
    def wrapper(vectors: FisherVectors, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        with exact_arithmetic(vectors.device):
            return product(vectors, *args, **kwargs)

    return wrapper


class FisherVectors:
    """V = (J - 1 z^T) diag(d): each row is a Fisher vector; V is never formed.

    Centring and whitening act on the probes, never on the gradients:
    ``V W = J (d W) - 1 (z^T d W)`` and ``V^T Y = d (J^T Y - z 1^T Y)``.

    Where processes hold rows each of its own, ``sweep`` and ``rmatmat`` sum over the rows
    of all; what has one row for an example is of this process's rows.

    Parameters
    ----------
    engine : Engine
        Gives the gradients of a batch.
    batches : Batches
        The N rows, visited once by each product.
    mean_score : Tensor of shape (P,)
        z.
    scale : Tensor of shape (P,)
        d.
    dtype : dtype
        Of the gradients and products.
    cache : GradientCache or None, default=None
        Where the gradients of the rows are kept, filled if it is not; None computes
        them at every visit.
    watch : Watch or None, default=None
        Sees sweeps go by.

    Attributes
    ----------
    shape : tuple of int
        (N, P), of all processes' rows.
    device : device
        Where the products are.
    """

    def __init__(
        self,
        engine: Engine,
        batches: Batches,
        mean_score: Tensor,
        scale: Tensor,
        dtype: torch.dtype,
        cache: GradientCache | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.engine = engine
        self.batches = batches
        self.cache = cache
        self.watch = watch or Unwatched()
        if cache is not None:
            cache.fill()
            mean_score = mean_score - cache.pivot  # it is taken off already of what is kept
        self.mean_score = mean_score.to(dtype)
        self.scale = scale.to(dtype)
        self.shape = (batches.n_rows_in_all, len(mean_score))
        self.dtype = dtype
        self.device = batches.device

    @_exactly
    def matmat(self, W: Tensor) -> Tensor:
        """Return V W, (N, L), for W (P, L).

        Cost: one pass.
        """
        scaled = self.scale[:, None] * W.contiguous()  # (P, L)
        shift = long_product(self.mean_score, scaled)  # (L,)
        none = shift.new_empty(0, len(shift))  # a process may have no rows
        return self._on_less_memory(
            lambda: torch.cat([none, *(block.matmat(scaled) - shift for block in self.blocks())])
        )

    @_exactly
    def rmatmat(self, Y: Tensor) -> Tensor:
        """Return V^T Y, (P, L), for Y (N, L).

        Cost: one pass.
        """

        def product() -> Tensor:
            total = torch.zeros(self.shape[1], Y.shape[1], dtype=self.dtype, device=self.device)
            start = 0
            for block, n_rows in all_blocks(self.source):
                block.rmatmat(Y[start : start + n_rows], add_to=total)
                start += n_rows
            return total

        total, column_sum = self._on_less_memory(product), Y.sum(0)
        self.peers.total([total, column_sum])
        return self._centred_and_scaled(total, column_sum)

    @_exactly
    def sweep(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Return Y^T Y, (L, L) in float64, and V^T Y, (P, L), for Y = V W.

        Each gradient is formed once for both; no (N, L) product is kept.
        Cost: one pass.
        """
        scaled = self.scale[:, None] * W.contiguous()  # (P, L)
        shift = long_product(self.mean_score, scaled)  # (L,)
        total = torch.zeros_like(scaled)
        column_sum = torch.zeros_like(shift)
        gram = torch.zeros(W.shape[1], W.shape[1], dtype=torch.float64, device=self.device)

        def add(block: GradientBlock) -> None:
            Y = block.matmat(scaled) - shift  # (B, L)
            block.rmatmat(Y, add_to=total)
            column_sum.add_(Y.sum(0))
            gram.add_(Y.double().T @ Y.double())

        visit(self.source, {"total": total, "column_sum": column_sum, "gram": gram}, add, self.watch)
        return gram, self._centred_and_scaled(total, column_sum)

    @_exactly
    def project(self, components: np.ndarray) -> Tensor:
        """Return V P_K, (N, K), for components (K, P) that stay where they are.

        ``matmat`` takes two copies of them, for speed; this reads them slice by slice,
        once for each batch: for components mapped from a file that memory has no room
        for. Cost: one pass.
        """

        def product(slices: Iterable[tuple[int, Tensor]]) -> Tensor:
            total = torch.zeros((), dtype=self.dtype, device=self.device)
            for start, columns in slices:
                for first, part in enumerate(columns.split(SLICE_COLUMNS, dim=1)):
                    begin = start + first * SLICE_COLUMNS
                    here = slice(begin, begin + part.shape[1])
                    W = to_tensor(components[:, here]).to(self.scale) * self.scale[here]
                    total = total + part.to(self.dtype) @ W.T
            return total

        shift = product([(0, self.mean_score[None])])  # (1, K)
        return self._on_less_memory(lambda: torch.cat([product(block.columns()) - shift for block in self.blocks()]))

    @_exactly
    def sketch(self, signs: SparseSigns, R: Tensor | None = None) -> Tensor:
        """Return V S for a sparse-sign matrix S (P, w), as (N, w), or V S R, (N, K).

        Layer by layer: each gradient is formed, added to w numbers and let go. The rows
        are those of this process.
        Cost: one pass, and two operations for each entry of V.

        Parameters
        ----------
        signs : SparseSigns of shape (P, w)
            S.
        R : Tensor of shape (w, K) or None, default=None
            What each row of V S is multiplied by.

        Returns
        -------
        Tensor of shape (N, w) or (N, K)
            The product.
        """
        sketched = self._sketched(signs)
        n_columns = signs.width if R is None else R.shape[1]
        product = torch.zeros(self.batches.n_rows, n_columns, dtype=self.dtype, device=self.device)
        n_rows = torch.zeros(1, dtype=torch.int64)

        def add(block: GradientBlock) -> None:
            rows, start = sketched(block), int(n_rows)
            product[start : start + len(rows)] = rows if R is None else rows @ R
            n_rows.add_(len(rows))

        visit(self.source, {"product": product, "n_rows": n_rows}, add, self.watch, joined=False)
        return product

    def sketch_blocks(self, signs: SparseSigns) -> Iterator[Tensor]:
        """Yield V S of each batch, (B, w), good until the next is asked for."""
        return map(self._sketched(signs), self.blocks())

    def _sketched(self, signs: SparseSigns) -> Callable[[GradientBlock], Tensor]:
        sums = SignedSums(signs, self.scale)
        shift = sums.of([(0, self.mean_score[None])]).clone()  # (1, w): z D S
        return lambda block: sums.of(block.columns()).sub_(shift)

    def gram(self) -> Tensor:
        """Return V V^T, (N, N) in float64.

        Cost: one pass where gradients have factors and the scale is separable
        (:func:`product_gram`); else half a pass more for each 256 MiB of Fisher vectors.
        """
        with exact_arithmetic(self.device):
            product = product_gram(self.blocks(), self.mean_score, self.scale, FORMED_BYTES)
        return gram_matrix(self) if product is None else product

    @_exactly
    def squared_norms(self) -> Tensor:
        """Return the rows' squared lengths, (N,) in float64.

        Cost: one pass.
        """
        return self._on_less_memory(lambda: torch.cat([rows.double().square().sum(1) for rows in self.row_blocks()]))

    @_exactly
    def rows(self) -> Tensor:
        """Return V itself, (N, P): for small models.

        Cost: one pass.
        """
        formed = torch.empty(self.batches.n_rows, self.shape[1], dtype=self.dtype, device=self.device)
        for offset, rows in _with_offsets(self.row_blocks(), 0):
            formed[offset : offset + len(rows)] = rows
        return formed

    def row_blocks(self) -> Iterator[Tensor]:
        """Yield the Fisher vectors of each batch, (B, P), formed."""
        for block in self.blocks():
            yield (block.rows() - self.mean_score) * self.scale

    @property
    def peers(self) -> Peers:
        """The processes that hold the other rows."""
        return self.batches.peers

    @property
    def source(self) -> RowSource:
        """Where the gradients come from."""
        return FormedRows(self.engine, self.batches) if self.cache is None else self.cache

    def blocks(self) -> Iterator[GradientBlock]:
        """Yield the gradients of each batch, less the cache's pivot where there is one."""
        return (block for block, _ in all_blocks(self.source))

    def slice(self, start: int, stop: int) -> FisherVectors:
        """Return the Fisher vectors of some rows."""
        part = copy.copy(self)
        part.batches = self.batches.slice(start, stop)
        part.cache = None if self.cache is None else self.cache.slice(start, stop)
        part.shape = (part.batches.n_rows, self.shape[1])
        return part

    def _on_less_memory(self, product: Callable[[], Tensor]) -> Tensor:
        return on_less_memory(product, self.source)

    def _centred_and_scaled(self, total: Tensor, column_sum: Tensor) -> Tensor:
        # In place: these are the largest numbers of a sweep, and fresh memory costs more than the sums.
        return total.addr_(self.mean_score, column_sum, alpha=-1).mul_(self.scale[:, None])


@_exactly
def gram_matrix(left: FisherVectors, right: FisherVectors | None = None, max_bytes: int = FORMED_BYTES) -> Tensor:
    """Return the kernel matrix V_left V_right^T in float64, by blocks of rows.

    Cost: one pass over ``right``, and one over ``left`` for each ``max_bytes`` of
    the formed Fisher vectors of ``right``; half of that if they are the same.

    Parameters
    ----------
    left : FisherVectors
        Of N rows.
    right : FisherVectors, optional
        Of M rows; None takes ``left``.
    max_bytes : int, default=2**28
        Memory for formed Fisher vectors.

    Returns
    -------
    Tensor of shape (N, M)
        In float64.
    """
    symmetric = right is None
    right = left if right is None else right
    kernel = torch.zeros(left.shape[0], right.shape[0], dtype=torch.float64, device=left.device)
    step = _rows_within(max_bytes, right)
    for start in range(0, right.shape[0], step):
        stop = min(start + step, right.shape[0])
        formed = right.slice(start, stop).rows()  # (step, P)
        first = start if symmetric else 0
        for offset, rows in _with_offsets(left.slice(first, left.shape[0]).row_blocks(), first):
            kernel[offset : offset + len(rows), start:stop] = _product(rows, formed)
    return _mirrored(kernel) if symmetric else kernel


def gram_bytes(n_rows: int, n_parameters: int, batch_size: int, itemsize: int) -> int:
    """Return what a Gram matrix needs beside itself, at most, in bytes.

    Twice what it may form, for the copy that joins factors of batches, and a float64
    copy of some columns.

    Parameters
    ----------
    n_rows, n_parameters : int
        N and P.
    batch_size : int
        Rows that are formed at once, at least.
    itemsize : int
        Bytes of a number.

    Returns
    -------
    int
        Bytes.
    """
    row_bytes = n_parameters * itemsize
    formed = min(n_rows * row_bytes, max(FORMED_BYTES, batch_size * row_bytes))
    return 2 * formed + 8 * min(COPY_ENTRIES, n_rows * n_parameters)


def _rows_within(max_bytes: int, vectors: FisherVectors) -> int:
    row_bytes = vectors.shape[1] * torch.finfo(vectors.dtype).bits // 8
    whole_batches = max_bytes // (row_bytes * vectors.batches.batch_size)
    return max(1, whole_batches) * vectors.batches.batch_size


def _with_offsets(blocks: Iterator[Tensor], offset: int) -> Iterator[tuple[int, Tensor]]:
    for rows in blocks:
        yield offset, rows
        offset += len(rows)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right.T in float64, without float64 copies of either."""
    total = torch.zeros(len(left), len(right), dtype=torch.float64, device=left.device)
    n_columns = max(1, COPY_ENTRIES // max(len(left), len(right)))
    for a, b in zip(left.split(n_columns, dim=1), right.split(n_columns, dim=1), strict=True):
        total.addmm_(a.double(), b.double().T)
    return total


def _mirrored(kernel: Tensor) -> Tensor:
    lower = kernel.tril()
    return lower + lower.tril(-1).T
