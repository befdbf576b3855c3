"""A sparse matrix of random signs, of which nothing is stored but a seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["SignedSums", "SparseSigns"]


@dataclass(frozen=True)
class SparseSigns:
    """S of shape (P, w): one sign in each row, in a column drawn for it.

    Row p has its sign in column ``(p + r_c) mod w``, with c = p // w its chunk and
    r_c that chunk's random rotation: each sum V S is one addition of a contiguous
    slice for each chunk. Two rows meet in a column with probability at most 1 / w
    and signs are independent, so that, as for the count sketch of Charikar, Chen and
    Farach-Colton (2002), ``E[(V S) (V S)^T] = V V^T`` with an expected squared error
    of at most ``2 ||V||_F^4 / w``.

    Signs and rotations are numbers of a counter-based generator (Philox, Salmon et
    al., 2011), the same on every machine and device. Where w is at least P, S is the
    identity, and nothing is lost.

    Parameters
    ----------
    n_parameters : int
        P.
    width : int
        w.
    seed : int
        Between 0 and 2^63 - 1; gives signs and rotations.
    """

    n_parameters: int
    width: int
    seed: int

    @property
    def is_identity(self) -> bool:
        """Whether every row has a column of its own, and no sign is needed."""
        return self.width >= self.n_parameters

    def signed(self, scale: Tensor) -> Tensor:
        """Return a vector with the signs of S's rows on it.

        Parameters
        ----------
        scale : Tensor of shape (P,)
            Not negative.

        Returns
        -------
        Tensor of shape (P,)
            Cost: no visit, P bits drawn.
        """
        if self.is_identity:
            return scale
        raw = self._stream(0).random_raw(-(-self.n_parameters // 64)).astype("<u8")
        bits = np.unpackbits(raw.view(np.uint8), count=self.n_parameters).view(bool)
        return torch.where(torch.from_numpy(bits).to(scale.device), scale, -scale)

    def rotations(self) -> list[int]:
        """Return r, the rotation of each chunk of w rows."""
        if self.is_identity:
            return [0]
        raw = self._stream(1).random_raw(-(-self.n_parameters // self.width))
        return (raw % np.uint64(self.width)).tolist()

    def _stream(self, number: int) -> np.random.Philox:
        return np.random.Philox(key=np.array([self.seed, number], dtype=np.uint64))


class SignedSums:
    """Products of rows with diag(d) S, gathered from slices of their columns.

    Parameters
    ----------
    signs : SparseSigns
        S, of shape (P, w).
    scale : Tensor of shape (P,)
        d.
    """

    def __init__(self, signs: SparseSigns, scale: Tensor) -> None:
        self.width = signs.width
        self._weights = signs.signed(scale)
        self._rotations = signs.rotations()
        self._memory = self._weights.new_empty(0, 2 * self.width)

    def of(self, slices: Iterable[tuple[int, Tensor]]) -> Tensor:
        """Return the products of rows, (B, w).

        Parameters
        ----------
        slices : iterable of (int, Tensor of shape (B, any))
            First column of a slice, and the slice, at least one; columns that none
            covers are zero.

        Returns
        -------
        Tensor of shape (B, w)
            Good until the next call. Cost: two operations for each entry.
        """
        sums = None
        for start, columns in slices:
            if sums is None:
                sums = self._zeros(len(columns))
            self._add(columns, start, sums)
        assert sums is not None
        return sums[:, : self.width].add_(sums[:, self.width :])

    def _zeros(self, n_rows: int) -> Tensor:
        """Return (B, 2 w) numbers, in memory that is kept: fresh pages cost as much as the sums.

        Twice as wide: a chunk that is rotated beyond the last column is folded back in the end.
        """
        if len(self._memory) < n_rows:
            self._memory = self._weights.new_empty(n_rows, 2 * self.width)
        return self._memory[:n_rows].zero_()

    def _add(self, columns: Tensor, start: int, sums: Tensor) -> None:
        stop = start + columns.shape[1]
        for chunk in range(start // self.width, -(-stop // self.width)):
            origin = chunk * self.width
            first, last = max(start, origin), min(stop, origin + self.width)
            to = first - origin + self._rotations[chunk]
            part = columns[:, first - start : last - start].to(sums.dtype)
            sums[:, to : to + last - first].addcmul_(part, self._weights[first:last])
