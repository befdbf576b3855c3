"""What is known of a function of torch that takes weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ._block import DenseBlock, GradientBlock
from ._layout import Layout

__all__ = ["Call", "Rule", "Workspace", "formed_product", "summed_over_positions"]

Workspace = Callable[[tuple[int, ...], Tensor], Tensor]  # (shape, like) -> memory to write gradients into


@dataclass
class Call:
    """A function and its arguments, by name."""

    function: Callable
    arguments: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        """Return an argument."""
        return self.arguments[name]

    def run(self, **replaced: Any) -> Tensor:
        """Call the function, some arguments replaced."""
        return self.function(**{**self.arguments, **replaced})


@dataclass(frozen=True)
class Rule:
    """What is known of one function.

    Parameters
    ----------
    function : callable
        Takes the arguments by name.
    data : str
        The argument that carries the examples.
    gradients : dict
        For each argument that is a weight: ``(call, signal, layout, workspace) ->
        GradientBlock``.
    knows : callable
        Whether the rule is right for a call of this form.
    folds : bool
        Whether the examples' axis may hold several positions of each example.
    any_axis : bool
        Whether the examples may be on another axis than the first.
    data_is_tokens : bool
        Whether the data have no axis of features.
    """

    function: Callable
    data: str
    gradients: dict[str, Callable[[Call, Tensor, Layout, Workspace], GradientBlock]]
    knows: Callable[[Call], bool] = field(default=lambda call: True)
    folds: bool = False
    any_axis: bool = False
    data_is_tokens: bool = False
    signature: inspect.Signature = field(init=False)

    def __post_init__(self) -> None:
        """Read the names of the function's arguments."""
        object.__setattr__(self, "signature", inspect.signature(self.function))

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__.strip("_")

    def bind(self, args: tuple, kwargs: dict[str, Any]) -> Call | None:
        """Name the arguments of a call; None for a form of the call that is not known."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError:
            return None
        bound.apply_defaults()
        return Call(self.function, dict(bound.arguments))

    def serves(self, call: Call, layout: Layout) -> bool:
        """Whether the rule is right for a call, and for examples that lie so."""
        if (layout.fold > 1 and not self.folds) or (layout.axis > 0 and not self.any_axis):
            return False
        n_feature_axes = 0 if self.data_is_tokens else len(call.arguments.get("normalized_shape", (1,)))
        return layout.axis < call[self.data].ndim - n_feature_axes and self.knows(call)


def formed_product(left: Tensor, right: Tensor, workspace: Workspace) -> DenseBlock:
    """Return the batched product (B, d_out, S) (B, S, d_in) as rows (B, d_out d_in)."""
    gradients = workspace((left.shape[0], left.shape[1], right.shape[2]), left)
    return DenseBlock(torch.bmm(left, right, out=gradients).flatten(1))


def summed_over_positions(call: Call, signal: Tensor, layout: Layout, workspace: Workspace) -> GradientBlock:
    """Return the gradients of a vector that is added at each position."""
    return DenseBlock(layout.positions(signal).sum(1))
