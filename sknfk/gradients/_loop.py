"""Per-example gradients by plain autograd, one example at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._block import DenseBlock
from ._model import LogDensityModel

__all__ = ["LoopEngine"]


class LoopEngine:
    """Plain autograd on each example: serves all that is differentiable, slowly.

    Cost: one forward and one backward pass for each example, and (B, P) numbers.
    It is the reference that the other engines are checked against.

    Parameters
    ----------
    model : LogDensityModel
        The function to differentiate.
    """

    name = "loop"
    forming = "loop"
    decided = None

    def __init__(self, model: LogDensityModel) -> None:
        self.model = model

    def __call__(self, x: Tensor) -> DenseBlock:
        """Return the gradients of rows x (B, *input)."""
        return DenseBlock(torch.cat([self._gradient_of_one(row[None]) for row in x]))

    def _gradient_of_one(self, x: Tensor) -> Tensor:
        values = {name: value.clone().requires_grad_() for name, value in self.model.values().items()}

        def gradients(log_density: Tensor) -> Sequence[Tensor]:
            if not log_density.requires_grad:  # no selected parameter takes part
                return [torch.zeros_like(v) for v in values.values()]
            return torch.autograd.grad(
                log_density.sum(), list(values.values()), allow_unused=True, materialize_grads=True
            )

        # Checkpointed activations are computed anew in the backward pass, which must find the same parameters.
        found = self.model.at(values, x, then=gradients)
        return self.model.parameter_space.flatten([(g.to_dense() if g.is_sparse else g)[None] for g in found])  # (1, P)
