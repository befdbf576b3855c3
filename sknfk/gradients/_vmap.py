"""Per-example gradients of a batch by ``torch.func``."""

from __future__ import annotations

from torch import Tensor
from torch.func import grad, vmap

from .._typing import ParameterDict
from ._block import DenseBlock
from ._model import LogDensityModel

__all__ = ["REFUSALS", "VmapEngine"]

# What torch raises when an operation has no batching rule or no derivative.
REFUSALS = (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError)


class VmapEngine:
    """All gradients of a batch at once: ``vmap`` over examples of ``grad``.

    Cost: one forward and one backward pass of the batch, and (B, P) numbers.
    It serves models whose operations have a batching rule and whose control flow
    does not depend on the data.

    Parameters
    ----------
    model : LogDensityModel
        The function to differentiate.
    """

    name = "vmap"
    forming = "vmap"
    decided = None

    def __init__(self, model: LogDensityModel) -> None:
        self.model = model
        self._gradients = vmap(grad(self._log_density_of_one), in_dims=(None, 0))

    def __call__(self, x: Tensor) -> DenseBlock:
        """Return the gradients of rows x (B, *input)."""
        gradients = self._gradients(self.model.values(), x)
        return DenseBlock(self.model.parameter_space.flatten(list(gradients.values())))

    def _log_density_of_one(self, values: ParameterDict, x: Tensor) -> Tensor:
        return self.model.at(values, x[None])[0]
