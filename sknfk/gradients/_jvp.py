"""Products with the gradients, column by column, as the paper has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from .._threads import FORWARD_MODE
from ._block import GradientBlock
from ._model import LogDensityModel

__all__ = ["JvpBlock", "JvpEngine"]


class JvpEngine:
    """Never forms a gradient: one JVP or VJP of the whole batch for each column.

    Cost: L forward-mode passes for ``matmat``, L backward passes for ``rmatmat``.
    For parity with the paper (Algorithms 5 and 6) and benchmarks; squares of
    gradients, which no product gives, come from the engine passed as ``dense``.

    Parameters
    ----------
    model : LogDensityModel
        The function to differentiate.
    dense : callable
        An engine that forms gradients, for statistics.
    columns_at_once : int, default=1
        Columns that ``vmap`` takes together; 1 is a plain loop, which serves every
        layer that has a derivative.
    """

    name = "jvp"
    decided = None

    def __init__(
        self, model: LogDensityModel, dense: Callable[[Tensor], GradientBlock], columns_at_once: int = 1
    ) -> None:
        self.model = model
        self.dense = dense
        self.columns_at_once = columns_at_once
        self.forming: str = getattr(dense, "name", "vmap")

    def __call__(self, x: Tensor) -> JvpBlock:
        """Return the gradients of rows x (B, *input), unformed."""
        return JvpBlock(self.model, x, self.dense, self.columns_at_once)


class JvpBlock:
    """A batch and its model: products by forward and reverse mode.

    Parameters
    ----------
    model : LogDensityModel
        The function to differentiate.
    x : Tensor of shape (B, *input)
        The batch.
    dense : callable
        An engine that forms gradients.
    columns_at_once : int, default=1
        Columns that ``vmap`` takes together.
    """

    def __init__(
        self, model: LogDensityModel, x: Tensor, dense: Callable[[Tensor], GradientBlock], columns_at_once: int = 1
    ) -> None:
        self.model = model
        self.x = x
        self.dense = dense
        self.columns_at_once = columns_at_once

    def matmat(self, W: Tensor) -> Tensor:
        """Return J W for W (P, L), as (B, L): one JVP for each column."""
        values = self.model.values()
        split = self.model.parameter_space.split

        def column(w: Tensor) -> Tensor:
            with FORWARD_MODE.held():
                return jvp(lambda v: self.model.at(v, self.x), (values,), (split(w.contiguous()),))[1]

        return self._for_each(column, W)

    def rmatmat(self, Y: Tensor, add_to: Tensor | None = None) -> Tensor:
        """Return J^T Y for Y (B, L), as (P, L): one forward, one VJP for each column.

        Added in place where a sum is given.
        """
        pull_back = vjp(lambda v: self.model.at(v, self.x), self.model.values())[1]
        flatten = self.model.parameter_space.flatten

        def column(y: Tensor) -> Tensor:
            return flatten([g[None] for g in pull_back(y)[0].values()])[0]

        product = self._for_each(column, Y)
        return product if add_to is None else add_to.add_(product)

    def sum(self) -> Tensor:
        """Return the sum of the rows, (P,) in float64."""
        return self._formed().sum()

    def squared_sum(self) -> Tensor:
        """Return the sum of the squared rows, (P,) in float64."""
        return self._formed().squared_sum()

    def rows(self, out: Tensor | None = None) -> Tensor:
        """Return the gradients themselves, (B, P); in the memory given, if any."""
        return self._formed().rows(out)

    def columns(self) -> Iterator[tuple[int, Tensor]]:
        """Yield slices of columns (B, any) with their first column."""
        return self._formed().columns()

    def held(self, n_probes: int) -> tuple[str, int]:
        """Return how they are held for products with L probes, and in how many numbers."""
        return "not formed", 0

    def _for_each(self, column: Callable[[Tensor], Tensor], block: Tensor) -> Tensor:
        """Apply a function of one column to all columns of a block."""
        if self.columns_at_once == 1:
            return torch.stack([column(w) for w in block.unbind(1)], dim=1).detach()
        parts = [vmap(column, 1, 1)(part) for part in block.split(self.columns_at_once, dim=1)]
        return torch.cat(parts, dim=1).detach()

    def _formed(self) -> GradientBlock:
        return self.dense(self.x)
