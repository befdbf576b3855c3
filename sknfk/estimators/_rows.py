"""How rows of X become what the model takes: shape, dtype and parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._sklearn import array_like, to_host
from .._tokens import takes_tokens
from .._typing import Inputs
from ..batches import BatchDigests, Batches, Feed, Field

__all__ = ["RowFormat", "Rows", "example_shape", "results_like", "row_format", "rows_of", "unpacker"]

Rows = np.ndarray | Tensor | Feed


def rows_of(X: Any) -> Rows:
    """Return validated X as what batches are read from; a feed is one already."""
    return X if isinstance(X, Feed) else to_host(X)


def results_like(values: Tensor, X: Any) -> Any:
    """Return results in X's namespace and on its device; for a feed, in numpy."""
    return values.detach().cpu().numpy() if isinstance(X, Feed) else array_like(values, X)


@dataclass(frozen=True)
class RowFormat:
    """Shape of X's rows, and the shape and dtype in which the model takes them.

    Parameters
    ----------
    given : tuple of int or None
        Shape of one row of X; None where it varies.
    wanted : tuple of int or None
        Shape of one example for the model; None where it varies, or where rows are packed.
    dtype : dtype or None
        Floating dtype of the batches; None keeps integers.
    parts : tuple of Field, default=()
        Of an example, where it has several.
    """

    given: tuple[int, ...] | None
    wanted: tuple[int, ...] | None
    dtype: torch.dtype | None
    parts: tuple[Field, ...] = ()

    def batches(self, rows: Rows, batch_size: int, device: torch.device) -> Batches:
        """Return the rows in batches for the model; those that a caller's code reads must stay the same."""
        self.check(rows)
        digests = BatchDigests() if isinstance(rows, Feed) and rows.source.is_read_anew else None
        return Batches(rows, batch_size, device, self.dtype, self.wanted, digests)

    def check(self, rows: Rows, name: str = "X") -> None:
        """Refuse rows of another shape or other parts, or floats where tokens are needed."""
        like = "as in fit" if name == "X" else "as X"
        fields = rows.fields if isinstance(rows, Feed) else None
        if (fields is None) != (not self.parts):
            expected = f"parts by name, {like}" if self.parts else "no parts: in fit an example was one array"
            got = f"rows of shape {tuple(rows.shape[1:])}" if fields is None else f"the parts {fields.describe()}"
            raise ValueError(f"{name} must have {expected}. Got {got}; pass {name} {like}.")
        if fields is not None:
            fields.check(self.parts, same_shapes=self.given is not None)
            return
        if self.given is not None and tuple(rows.shape[1:]) != self.given:
            raise ValueError(
                f"{name} must have rows of shape {self.given}, {like}. Got {tuple(rows.shape[1:])}; "
                "pass rows of the same shape."
            )
        if self.dtype is None and not _is_integer(rows):
            raise ValueError(
                f"{name} must hold integer tokens: the model's first layer is an embedding. Got {rows.dtype}; "
                f"convert {name} with `astype(int)` if its values are token ids."
            )

    def check_axes(self, X: Any) -> None:
        """Refuse an array with other axes than in fit, of which scikit-learn would compare the second alone."""
        n_axes = getattr(X, "ndim", 0)
        if self.given is not None and n_axes > 1 and n_axes != 1 + len(self.given):
            self.check(X)


def unpacker(rows: Rows, dtype: torch.dtype) -> Callable[[Tensor], Inputs] | None:
    """Return what takes packed rows apart, or None where an example is one tensor."""
    fields = rows.fields if isinstance(rows, Feed) else None
    return None if fields is None else partial(fields.unpack, floating=dtype)


def example_shape(rows: Rows, input_shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the shape of one example for the model; None where it varies.

    Raises
    ------
    ValueError
        If ``input_shape`` has another size than a row, or rows have no single shape.
    """
    if isinstance(rows, Feed) and (rows.source.varies or rows.fields is not None):
        if input_shape is not None:
            raise ValueError(
                f"`input_shape` must be None where X has parts or is padded by `collate_fn`. Got {input_shape}; let "
                "the data set give the shape that the model takes."
            )
        return None if rows.source.varies or rows.fields is not None else tuple(rows.shape[1:])
    given = tuple(rows.shape[1:])
    wanted = given if input_shape is None else tuple(input_shape)
    if math.prod(given) != math.prod(wanted):
        raise ValueError(
            f"`input_shape` must hold as many values as a row of X. Got {wanted} ({math.prod(wanted)} values) "
            f"for rows of shape {given} ({math.prod(given)}); check its order, such as (3, 32, 32)."
        )
    return wanted


def row_format(rows: Rows, wanted: tuple[int, ...] | None, module: nn.Module, dtype: torch.dtype) -> RowFormat:
    """Return the format of X's rows for a module in eval mode; refuse floats where it takes tokens."""
    varies = isinstance(rows, Feed) and rows.source.varies
    given = None if varies else tuple(rows.shape[1:])
    fields = rows.fields if isinstance(rows, Feed) else None
    if fields is None:
        rows_as = RowFormat(given, wanted, None if takes_tokens(module, wanted or (1,)) else dtype)
    else:
        # Packed integers must not be rounded; parts get their own dtypes when they are taken apart.
        rows_as = RowFormat(given, wanted, None if _is_integer(rows) else torch.float64, fields.first)
    rows_as.check(rows)
    return rows_as


def _is_integer(rows: Rows) -> bool:
    if isinstance(rows.dtype, torch.dtype):
        return not rows.dtype.is_floating_point and not rows.dtype.is_complex
    return rows.dtype.kind in "iub"
