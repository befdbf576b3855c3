"""What the engines cost for one example, in operations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ._model import LogDensityModel

__all__ = ["EngineCosts", "engine_costs", "forward_flops"]

# Writing one number of a gradient, and reading it once, takes as long as 20 operations of a product
# (4 bytes at 15 GB/s, 75 GFLOP/s: one core of the machine in benchmarks/NOTES.md).
OPERATIONS_PER_NUMBER = 20


@dataclass(frozen=True)
class EngineCosts:
    """Operations for one example's gradients, memory traffic counted as operations.

    Parameters
    ----------
    layerwise : float
        One forward and one backward pass and the forming of what it serves; and a
        pass of vmap where it leaves parameters over.
    vmap : float
        The same work; it writes each gradient and joins them.
    """

    layerwise: float
    vmap: float


def engine_costs(forward_flops: int, n_parameters: int, n_left_over: int = 0) -> EngineCosts:
    """Predict what engines cost.

    Parameters
    ----------
    forward_flops : int
        Operations of a forward pass of one example.
    n_parameters : int
        P.
    n_left_over : int
        Parameters that layer-wise rules do not serve.

    Returns
    -------
    EngineCosts
        The predictions.
    """
    one_pass = 3 * forward_flops  # forward, backward, and the products that form gradients
    served = one_pass + OPERATIONS_PER_NUMBER * (n_parameters - n_left_over)
    second_pass = one_pass + 2 * OPERATIONS_PER_NUMBER * n_left_over if n_left_over else 0
    return EngineCosts(served + second_pass, one_pass + 2 * OPERATIONS_PER_NUMBER * n_parameters)


def forward_flops(model: LogDensityModel, x: Tensor) -> int:
    """Count the operations of a forward pass, in products and convolutions.

    Parameters
    ----------
    model : LogDensityModel
        The model.
    x : Tensor of shape (B, *input)
        A few examples. Cost: one forward pass over them.

    Returns
    -------
    int
        For one example; two for each multiplication and addition.
    """
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() // len(x)
