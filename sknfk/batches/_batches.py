"""The rows of X as tensors on one device, visited in their order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from .._sklearn import native
from ..distributed import ALONE, Peers
from ..exceptions import DataChangedError, ExampleTooLargeError
from ._feeds import Feed

__all__ = ["BatchDigests", "Batches", "RowLimit"]

HEAD_ROWS = 64  # that mostly tell one process's rows from another's


class RowLimit:
    """How many rows of a batch are worked on at once: all, until memory gives out.

    Attributes
    ----------
    n_rows : int or None
        The limit; None is no limit.
    """

    def __init__(self) -> None:
        self.n_rows: int | None = None

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return rows in parts within the limit."""
        return x.split(len(x) if self.n_rows is None else self.n_rows)

    def halve(self, n_rows: int) -> None:
        """Lower the limit to half of the rows that were too many.

        Parameters
        ----------
        n_rows : int
            The rows that were too many.

        Raises
        ------
        ExampleTooLargeError
            If that was one row.
        """
        if n_rows <= 1:
            raise ExampleTooLargeError(
                "A single example must fit the device's memory with its gradients and products, and it does not. "
                "Choose fewer `parameters` or lower `n_components`, or free some memory."
            )
        self.n_rows = -(-n_rows // 2)


class BatchDigests:
    """Digests of batches, recorded when first seen and compared from then on.

    Parameters
    ----------
    known : sequence of str, default=()
        Digests that an earlier process has recorded.
    """

    def __init__(self, known: list[str] | tuple[str, ...] = ()) -> None:
        self.known = list(known)

    def see(self, index: int, rows: Tensor) -> None:
        """Record the rows of a batch, or compare them with what was recorded.

        Parameters
        ----------
        index : int
            Which batch.
        rows : Tensor of shape (B, ...)
            What it holds.

        Raises
        ------
        DataChangedError
            If they are others.
        """
        content = rows.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest = hashlib.sha256(content.data).hexdigest()
        if index == len(self.known):
            self.known.append(digest)
        elif index < len(self.known) and self.known[index] != digest:
            raise DataChangedError(
                f"X must hold the same rows at every pass. Got other values in batch {index} than before; "
                "pass the same X in the same order: shuffle=False, and no augmentation."
            )


@dataclass(frozen=True)
class Batches:
    """Rows of an array in batches, read anew at every visit.

    Parameters
    ----------
    rows : ndarray, Tensor or Feed of shape (N, ...)
        Memory-mapped arrays and feeds are read a batch at a time.
    batch_size : int
        Rows of a batch, B.
    device : device
        Where the batches go.
    dtype : dtype or None
        Floating dtype that the rows are cast to; None keeps integers as int64.
    row_shape : tuple of int or None
        Shape of one example as the model wants it, ``(*input)``; None where it varies.
    digests : BatchDigests or None, default=None
        What the batches were when they were first read.
    limit : RowLimit
        Rows of a batch that are worked on at once; shared by all that is made of these batches.
    peers : Peers, default=ALONE
        The processes that hold the other rows, each its own; they know how many each has.
    """

    rows: np.ndarray | Tensor | Feed
    batch_size: int
    device: torch.device
    dtype: torch.dtype | None
    row_shape: tuple[int, ...] | None
    digests: BatchDigests | None = None
    limit: RowLimit = field(default_factory=RowLimit)
    peers: Peers = ALONE

    @property
    def n_rows(self) -> int:
        """Number of rows that are here; all N where one process holds them."""
        return len(self.rows)

    @property
    def n_rows_in_all(self) -> int:
        """Number of rows, N, of all processes."""
        return self.n_rows if self.peers.is_alone else sum(self.peers.n_rows)

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-self.n_rows // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield tensors of shape (B, *input)."""
        return self.after(0)

    def after(self, n_batches: int) -> Iterator[Tensor]:
        """Yield the batches but for the first ones."""
        size = self.batch_size
        ranges = [range(i * size, min((i + 1) * size, self.n_rows)) for i in range(n_batches, len(self))]
        batches: Iterator[Tensor] = (self._on_device(rows) for rows in self._read(ranges))
        if self.device.type == "cuda":
            batches = _one_ahead(batches, self.device)
        for index, x in enumerate(batches, start=n_batches):
            if self.digests is not None:
                self.digests.see(index, x)
            yield x

    def head(self, n_rows: int) -> Tensor:
        """Return the first rows as one batch."""
        return self._on_device(self.rows[:n_rows])

    def slice(self, start: int, stop: int) -> Batches:
        """Return the batches of some rows, of this process alone."""
        return replace(self, rows=self.rows[start:stop], digests=None, peers=ALONE)

    def share(self, peers: Peers) -> Batches:
        """Return this process's part of rows that all processes hold."""
        part, spread = peers.share(self.n_rows)
        return self if peers.is_alone else replace(self.slice(part.start, part.stop), peers=spread)

    def require_own_rows(self) -> None:
        """Refuse rows that are the same in every process that has any.

        Cost: some rows are read; all of them where the first and their number agree.

        Raises
        ------
        ValueError
            If they are the same.
        """
        holding = sum(n > 0 for n in self.peers.n_rows)
        if holding < 2:
            return
        digests = BatchDigests()
        for rows in (iter([self.head(HEAD_ROWS)]), iter(self)):
            for x in rows:
                digests.see(len(digests.known), x)
            told = self.peers.gathered((self.n_rows, digests.known), "digests")
            if len({(n, tuple(known)) for n, known in told if n}) > 1:
                return
        raise ValueError(
            f"X must hold other rows in each process. Got the same {self.n_rows} rows in all {holding}; "
            "pass each rank its own rows, such as X[rank::n_processes]."
        )

    def _read(self, ranges: list[range]) -> Iterator[np.ndarray | Tensor]:
        if isinstance(self.rows, Feed):
            return self.rows.in_batches(ranges)
        return (self.rows[part.start : part.stop] for part in ranges)

    def _on_device(self, rows: np.ndarray | Tensor) -> Tensor:
        # The copy makes read-only and memory-mapped rows safe to hand to torch.
        x = rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(native(rows), order="C"))
        if self.device.type == "cuda" and x.device.type == "cpu":
            # From pinned memory neither the host nor kernels of another stream wait for the copy.
            x = x.pin_memory().to(self.device, non_blocking=True)
        x = x.to(device=self.device, dtype=torch.int64 if self.dtype is None else self.dtype)
        return x if self.row_shape is None else x.reshape(len(x), *self.row_shape)


def _one_ahead(batches: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Let each batch travel, on a stream of its own, while the GPU still works on the one before."""
    working, travelling = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    travelling.wait_stream(working)  # rows that are on the GPU may still be in the making

    def sent() -> Tensor | None:
        with torch.cuda.stream(travelling):
            return next(batches, None)

    x = sent()
    while x is not None:
        working.wait_stream(travelling)
        x.record_stream(working)  # its memory is free once the work on it is done, not the copy
        following = sent()
        yield x
        x = following
