"""How rows of X become what the model takes: shape and dtype."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .._torch import takes_tokens
from ..batches import Batches

__all__ = ["RowFormat", "example_shape", "row_format"]


@dataclass(frozen=True)
class RowFormat:
    """Shape of X's rows, and the shape and dtype in which the model takes them.

    Parameters
    ----------
    given : tuple of int
        Shape of one row of X.
    wanted : tuple of int
        Shape of one example for the model.
    dtype : dtype or None
        Floating dtype of the examples; None keeps integers.
    """

    given: tuple[int, ...]
    wanted: tuple[int, ...]
    dtype: torch.dtype | None

    def batches(self, rows: np.ndarray | Tensor, batch_size: int, device: torch.device) -> Batches:
        """Return the rows in batches for the model."""
        self.check(rows)
        return Batches(rows, batch_size, device, self.dtype, self.wanted)

    def check(self, rows: np.ndarray | Tensor) -> None:
        """Refuse rows of another shape, or floats where tokens are needed."""
        if tuple(rows.shape[1:]) != self.given:
            raise ValueError(
                f"X must have rows of shape {self.given}, as in fit. Got {tuple(rows.shape[1:])}; "
                "pass rows of the same shape."
            )
        if self.dtype is None and not _is_integer(rows):
            raise ValueError(
                f"X must hold integer tokens: the model's first layer is an embedding. Got {rows.dtype}; "
                "convert X with `X.astype(int)` if its values are token ids."
            )


def example_shape(rows: np.ndarray | Tensor, input_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the shape of one example for the model.

    Raises
    ------
    ValueError
        If ``input_shape`` has another size than a row.
    """
    given = tuple(rows.shape[1:])
    wanted = given if input_shape is None else tuple(input_shape)
    if math.prod(given) != math.prod(wanted):
        raise ValueError(
            f"`input_shape` must hold as many values as a row of X. Got {wanted} ({math.prod(wanted)} values) "
            f"for rows of shape {given} ({math.prod(given)})."
        )
    return wanted


def row_format(rows: np.ndarray | Tensor, wanted: tuple[int, ...], module: nn.Module, dtype: torch.dtype) -> RowFormat:
    """Return the format of X's rows for a module; refuse floats where it takes tokens."""
    rows_as = RowFormat(tuple(rows.shape[1:]), wanted, None if takes_tokens(module) else dtype)
    rows_as.check(rows)
    return rows_as


def _is_integer(rows: np.ndarray | Tensor) -> bool:
    if isinstance(rows, Tensor):
        return not rows.is_floating_point() and not rows.is_complex()
    return rows.dtype.kind in "iub"
