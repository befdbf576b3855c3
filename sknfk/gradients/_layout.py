"""Where the examples of a batch are in a tensor inside a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

__all__ = ["Layout", "layout_between", "layouts_that_agree"]


@dataclass(frozen=True)
class Layout:
    """The axis that follows the batch, and how an example's positions lie on it.

    Parameters
    ----------
    axis : int
        The axis whose length changes with the number of examples.
    fold : int, default=1
        Its length for each example: sequences are often flattened into it.
    examples_last : bool, default=False
        Whether the fold is ordered by position first, as in (S, B).
    """

    axis: int
    fold: int = 1
    examples_last: bool = False

    def examples_first(self, x: Tensor) -> Tensor:
        """Return x with a first axis of B examples, and one of fold where that is not 1."""
        x = x.movedim(self.axis, 0)
        if self.fold == 1:
            return x
        if self.examples_last:
            return x.unflatten(0, (self.fold, -1)).transpose(0, 1)
        return x.unflatten(0, (-1, self.fold))

    def example_of(self, entries: Tensor, n_examples: int) -> Tensor:
        """Return which example each of these entries of the axis belongs to."""
        return entries % n_examples if self.examples_last else entries // self.fold

    def positions(self, x: Tensor, n_last: int = 1) -> Tensor:
        """Return x as (B, S, d): all but the last axes are positions of an example."""
        x = self.examples_first(x)
        return x.reshape(x.shape[0], -1, x.shape[-n_last:].numel())


def layout_between(of_two: tuple[int, ...], of_one: tuple[int, ...]) -> Layout | None:
    """Find the layout of a tensor from its shapes for two examples and for one.

    Parameters
    ----------
    of_two, of_one : tuple of int
        The shapes.

    Returns
    -------
    Layout or None
        None where no axis, or more than one, follows the number of examples.
    """
    if len(of_two) != len(of_one):
        return None
    changed = [axis for axis, (two, one) in enumerate(zip(of_two, of_one, strict=True)) if two != one]
    if len(changed) != 1 or of_two[changed[0]] != 2 * of_one[changed[0]]:
        return None
    return Layout(changed[0], of_one[changed[0]])


def layouts_that_agree(layout: Layout, entries: Sequence[Tensor]) -> list[Layout]:
    """Return the orders of an axis that give each example its own entries.

    Parameters
    ----------
    layout : Layout
        Its axis and fold.
    entries : sequence of Tensor
        For each example of a batch, the entries of the axis that it depends on. With
        three examples or more, one entry of the middle one tells the orders apart.

    Returns
    -------
    list of Layout
        None if entries are shared or exchanged, two if they do not tell.
    """
    orders = [layout] if layout.fold == 1 else [replace(layout, examples_last=last) for last in (False, True)]
    return [
        order
        for order in orders
        if all(bool((order.example_of(own, len(entries)) == i).all()) for i, own in enumerate(entries))
    ]
