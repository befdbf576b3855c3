"""Examples of several named parts, packed into rows of one array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._sklearn import native

__all__ = ["Field", "Fields"]


@dataclass(frozen=True)
class Field:
    """One part of an example.

    Parameters
    ----------
    name : str
        The argument of the model that it is.
    shape : tuple of int
        For one example.
    dtype : dtype
        As it was given.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Number of entries."""
        return torch.Size(self.shape).numel()


class Fields:
    """The parts of an example, and where they lie in a packed row.

    Packed, an example of several parts is a row as any other, and all that works on
    rows works on it: batches, digests, ``vmap``. Integers are packed as int64, and
    with floating parts beside them as float64, exact up to 2^53. Where a batch is
    padded to its own longest example, rows of each width have a layout of their own.

    Examples
    --------
    >>> import torch
    >>> from sknfk.batches import Fields
    >>> fields = Fields()
    >>> rows = fields.pack({"ids": torch.tensor([[5, 7], [6, 0]]), "mask": torch.tensor([[True, True], [True, False]])})
    >>> rows.shape
    torch.Size([2, 4])
    >>> fields.unpack(rows, torch.float32)["mask"]
    tensor([[ True,  True],
            [ True, False]])
    """

    def __init__(self) -> None:
        self._layouts: dict[int, tuple[Field, ...]] = {}  # by the width of a row

    @property
    def first(self) -> tuple[Field, ...]:
        """The parts of the rows that were packed first."""
        return next(iter(self._layouts.values()))

    def pack(self, parts: Mapping[str, Any]) -> Tensor:
        """Return the parts of some examples as rows (B, D).

        Parameters
        ----------
        parts : mapping of str to array-like of shape (B, ...)
            Numbers or truth values.

        Returns
        -------
        Tensor of shape (B, D)
            In int64 if no part is floating, else in float64.
        """
        tensors = {str(name): _as_tensor(str(name), values) for name, values in parts.items()}
        lengths = {name: len(t) for name, t in tensors.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(
                f"The parts of X must have the same number of rows. Got {lengths}; pass one for each example."
            )
        layout = tuple(Field(name, tuple(t.shape[1:]), t.dtype) for name, t in tensors.items())
        width = sum(field.size for field in layout)
        if self._layouts.setdefault(width, layout) != layout:
            raise ValueError(
                f"Batches of X whose rows hold {width} numbers must have the same parts. Got {_told(layout)} after "
                f"{_told(self._layouts[width])}; let `collate_fn` pad all parts to one length."
            )
        floating = any(t.is_floating_point() for t in tensors.values())
        dtype = torch.float64 if floating else torch.int64
        return torch.cat([t.to(dtype).flatten(1) if t.ndim > 1 else t.to(dtype)[:, None] for t in tensors.values()], 1)

    def unpack(self, rows: Tensor, floating: torch.dtype) -> dict[str, Tensor]:
        """Return rows (B, D) as their parts.

        Parameters
        ----------
        rows : Tensor of shape (B, D)
            Packed.
        floating : dtype
            Of the floating parts; the others are int64 or bool.

        Returns
        -------
        dict of str to Tensor of shape (B, ...)
            New tensors.
        """
        parts, start = {}, 0
        for field in self._layouts[rows.shape[1]]:
            values = rows[:, start : start + field.size].reshape(-1, *field.shape)
            dtype = field.dtype if field.dtype == torch.bool else torch.int64
            parts[field.name] = values.to(floating if field.dtype.is_floating_point else dtype, copy=True)
            start += field.size
        return parts

    def describe(self) -> str:
        """Return names and shapes of the parts in words."""
        return _told(self.first)

    def check(self, expected: Sequence[Field], same_shapes: bool) -> None:
        """Refuse parts of other names, kinds or shapes than those expected.

        Sequences of integers may have another length: they may be padded to another.

        Parameters
        ----------
        expected : sequence of Field
            The parts.
        same_shapes : bool
            Whether shapes of floating parts must agree.

        Raises
        ------
        ValueError
            If they differ.
        """
        if _essence(self.first, same_shapes) != _essence(expected, same_shapes):
            raise ValueError(
                f"X must have the parts that it had in fit, {_told(expected)}. Got {self.describe()}; pass the same."
            )


def _essence(layout: Sequence[Field], with_shapes: bool) -> list[tuple]:
    def shape(field: Field) -> Any:
        return field.shape if with_shapes and field.dtype.is_floating_point else len(field.shape)

    return sorted((field.name, field.dtype.is_floating_point, shape(field)) for field in layout)


def _told(layout: Sequence[Field]) -> str:
    return ", ".join(f"'{field.name}' {field.shape}" for field in layout)


def _as_tensor(name: str, values: Any) -> Tensor:
    if not isinstance(values, Tensor):
        try:
            values = torch.from_numpy(native(np.array(values)))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Part '{name}' of X must be an array of numbers, a row for each example. Got {type(values).__name__} "
                "that cannot become one; pad rows to one length, or pass a DataLoader whose `collate_fn` does."
            ) from error
    if values.ndim == 0:
        raise ValueError(
            f"Part '{name}' of X must have a row for each example. Got a single number; pass an array of one for each."
        )
    return values.detach()
