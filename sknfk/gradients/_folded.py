"""Products of a model with its inputs laid out as fast kernels want them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ._functions import TWINS

__all__ = ["FoldedProducts"]

_PRODUCTS = {F.linear, torch.matmul, Tensor.matmul, Tensor.__matmul__}
_ATTENTION = F.multi_head_attention_forward


class FoldedProducts(TorchFunctionMode):
    """Lays out batches of matrices before they meet one matrix of weights.

    Left transposed, as attention with ``batch_first`` leaves them, they make torch repeat
    the weights for each, for which oneDNN has no fast kernel.
    """

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, a product with its first tensor in order."""
        kwargs = kwargs or {}
        if func is _ATTENTION:  # its projections are inside
            with self:
                return TWINS[func](*args, **kwargs)
        if func in _PRODUCTS and len(args) > 1 and args[0].ndim > 2 and args[1].ndim == 2:
            args = (args[0].contiguous(), *args[1:])
        return func(*args, **kwargs)
