"""Whether a model reads tokens: whole numbers that it looks up in a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["takes_tokens"]

_TABLES = (nn.Embedding, nn.EmbeddingBag)
_LOOKUPS = (F.embedding, F.embedding_bag)


def takes_tokens(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a model looks up its input in an embedding.

    It is given floats, which no table takes; tables of positions or of codes are asked
    for other numbers. Where its forward pass fails before, the first layer with
    parameters decides.

    Cost: a forward pass of one row, if the model has an embedding.

    Parameters
    ----------
    module : Module
        In eval mode.
    shape : tuple of int
        Shape of one row.

    Returns
    -------
    bool
        Whether rows must be integers.
    """
    layers = [layer for layer in module.modules() if next(layer.parameters(recurse=False), None) is not None]
    if not any(isinstance(layer, _TABLES) for layer in layers):
        return False
    weight = next(p for p in module.parameters() if p.is_floating_point())
    watch = _Watch()
    try:
        with torch.no_grad(), watch:
            module(torch.zeros(1, *shape, dtype=weight.dtype, device=weight.device))
    except Exception:  # torch's, of a table that got floats, or whatever the model's own code raises
        return watch.has_seen_floats or isinstance(layers[0], _TABLES)
    return False


class _Watch(TorchFunctionMode):
    """Notes whether a table has been asked by floats."""

    has_seen_floats = False

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _LOOKUPS and (args[0] if args else kwargs["input"]).is_floating_point():
            self.has_seen_floats = True
        return func(*args, **kwargs)
