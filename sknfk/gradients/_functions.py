"""What the recorder must know of torch's functions, beside the layers' rules."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ._recurrent import RECURRENT

__all__ = ["ELEMENTWISE", "EXPANDING", "SHAPED_LIKE", "TWINS", "VERDICTS", "breaks_tracing", "tensors_in"]


def _named(*names: str) -> set[Callable]:
    """Return the functions of these names, of torch and of its tensors."""
    return {getattr(owner, name) for owner in (torch, Tensor) for name in names if hasattr(owner, name)}


# They combine a tensor of examples with a weight, entry by entry.
ELEMENTWISE = _named(
    *(
        prefix + name + suffix
        for name in ("add", "sub", "mul", "div", "truediv", "true_divide", "multiply", "subtract", "pow", "maximum")
        for prefix, suffix in (("", ""), ("", "_"), ("__", "__"), ("__r", "__"), ("__i", "__"))
    )
)
# They repeat a weight for each example.
EXPANDING = {Tensor.expand, Tensor.expand_as, Tensor.repeat, torch.broadcast_to, Tensor.broadcast_to}
# Of their second tensor they take the shape or the type alone.
SHAPED_LIKE = {Tensor.to, Tensor.type_as, Tensor.view_as, Tensor.reshape_as, Tensor.expand_as}
# Of a whole batch, they say whether to raise an error; what follows is the same for every batch that goes on.
VERDICTS = _named("all", "any", "_is_all_true", "_is_any_true")

_DIFFERENTIATES = {torch.autograd.grad, Tensor.backward}
_READS_VALUES = _named("item", "tolist", "numpy", "__array__") | _named(
    "__bool__", "__int__", "__float__", "__complex__", "__index__"
)
_PICKS_ALONG_AN_AXIS = _named("gather", "take_along_dim", "scatter", "scatter_", "scatter_add", "scatter_add_")
_HAS_SHAPE_BY_VALUES = _named("nonzero", "argwhere", "masked_select", "unique", "unique_consecutive")


def breaks_tracing(
    func: Callable, args: tuple, kwargs: dict[str, Any], follows_rows: Callable[[Any], bool]
) -> str | None:
    """Say what a call does that tracing a few rows cannot foresee for others.

    Parameters
    ----------
    func : callable
        A function of torch.
    args, kwargs : tuple and dict
        What it is called with.
    follows_rows : callable
        Whether a tensor was computed from the rows.

    Returns
    -------
    str or None
        A verb and its object; None for a call that does no such thing.
    """
    if func in _DIFFERENTIATES:
        return "differentiates inside its forward pass"
    if not args or not follows_rows(args[0]):
        return None
    if func in _READS_VALUES or func in _HAS_SHAPE_BY_VALUES or (func is torch.where and len(args) == 1):
        return f"goes by the values of the rows ('{func.__name__}')"
    if _picks_by_values(func, args, kwargs, follows_rows):
        return f"picks rows by their values ('{func.__name__}')"
    return None


def _picks_by_values(func: Callable, args: tuple, kwargs: dict[str, Any], follows_rows: Callable[[Any], bool]) -> bool:
    """Whether examples may change their number or their places: a mask, or indices along the first axis."""
    others = (*args[1:], *kwargs.values())
    if func in (torch.index_select, Tensor.index_select):
        return any(follows_rows(t) for t in others)
    if func in _PICKS_ALONG_AN_AXIS:
        return any(isinstance(t, int) and t == 0 for t in others) and any(follows_rows(t) for t in others)
    if func not in (Tensor.__getitem__, Tensor.__setitem__):
        return False
    index = args[1] if isinstance(args[1], tuple) else (args[1],)
    return any(
        follows_rows(picked) and (place == 0 or picked.dtype in (torch.bool, torch.uint8))
        for place, picked in enumerate(index)
    )


def tensors_in(nested: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples and dictionaries."""
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, list | tuple):
        for item in nested:
            yield from tensors_in(item)
    elif isinstance(nested, dict):
        for item in nested.values():
            yield from tensors_in(item)


def _transparent(function: Callable) -> Callable:
    """Copy a function of torch so that a mode sees the calls inside it instead of itself."""
    own = cast(types.FunctionType, function)
    seen = {**own.__globals__, "has_torch_function": lambda tensors: False}
    twin = types.FunctionType(own.__code__, seen, own.__name__, own.__defaults__, own.__closure__)
    twin.__kwdefaults__ = own.__kwdefaults__
    return twin


# Attention's projections are inside one function of torch that takes all its weights.
TWINS: dict[Callable, Callable] = {
    F.multi_head_attention_forward: _transparent(F.multi_head_attention_forward),
    **RECURRENT,
}
