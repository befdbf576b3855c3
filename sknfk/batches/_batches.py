"""The rows of X as tensors on one device, visited in their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

__all__ = ["Batches"]


@dataclass(frozen=True)
class Batches:
    """Rows of an array in batches, read anew at every visit.

    Parameters
    ----------
    rows : ndarray or Tensor of shape (N, ...)
        Memory-mapped arrays are read a batch at a time.
    batch_size : int
        Rows of a batch, B.
    device : device
        Where the batches go.
    dtype : dtype or None
        Floating dtype that the rows are cast to; None keeps integers as int64.
    row_shape : tuple of int
        Shape of one example as the model wants it, ``(*input)``.
    """

    rows: np.ndarray | Tensor
    batch_size: int
    device: torch.device
    dtype: torch.dtype | None
    row_shape: tuple[int, ...]

    @property
    def n_rows(self) -> int:
        """Number of rows, N."""
        return len(self.rows)

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-self.n_rows // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield tensors of shape (B, *input)."""
        for start in range(0, self.n_rows, self.batch_size):
            yield self._on_device(self.rows[start : start + self.batch_size])

    def head(self, n_rows: int) -> Tensor:
        """Return the first rows as one batch."""
        return self._on_device(self.rows[:n_rows])

    def slice(self, start: int, stop: int) -> Batches:
        """Return the batches of some rows."""
        return replace(self, rows=self.rows[start:stop])

    def _on_device(self, rows: np.ndarray | Tensor) -> Tensor:
        # The copy makes read-only and memory-mapped rows safe to hand to torch.
        x = rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows, order="C"))
        x = x.to(device=self.device, dtype=torch.int64 if self.dtype is None else self.dtype)
        return x.reshape(len(x), *self.row_shape)
