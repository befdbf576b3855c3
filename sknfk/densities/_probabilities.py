"""Telling a model that gives probabilities from one that gives logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .._typing import Inputs
from ._base import Density
from ._forward import label_logits, main_output

__all__ = ["BeforeSigmoid", "DensityOfLogits", "sigmoids_before_the_output"]

_SIGMOIDS = (torch.sigmoid, Tensor.sigmoid, torch.sigmoid_, Tensor.sigmoid_, nn.functional.sigmoid, torch.special.expit)


class DensityOfLogits(Density):
    """Base class of the densities of logits: it refuses a model that gives probabilities.

    Their gradient is not that of a free energy: logsumexp of log-probabilities is 0 for
    every x and any parameters. Sums of 1 in all rows give a softmax away. Honest logits
    may all lie between 0 and 1: a sigmoid is known by its call alone.
    """

    def prepared(self, model: nn.Module, x: Inputs, rng: torch.Generator) -> Density:
        """Refuse a model whose output is that of a softmax, its logarithm or a sigmoid.

        Cost: a forward pass of a few rows.

        Parameters
        ----------
        model : Module
            Returns logits, (B, C) or one column.
        x : Tensor of shape (B, *input)
            A few rows.
        rng : torch.Generator
            Not used.

        Returns
        -------
        Density
            The density itself.
        """
        with torch.no_grad(), _Sigmoids() as sigmoids:
            columns = label_logits(model, x)
        found = _of_softmax(columns)
        if found is None and sigmoids.calls_before(columns):
            found = "probabilities (of a sigmoid)"
        if found is not None:
            raise ValueError(
                f"`model` must return logits. Its rows are {found}; remove its last step, or choose a density of them "
                "with density=Logit('argmax') or a callable."
            )
        return self


def _of_softmax(columns: Tensor) -> str | None:
    """Say what rows (B, C) are that sum to one, or whose exponentials do."""
    if columns.shape[1] < 2:  # one logit may be 0 or 1 for every row
        return None
    if bool((columns >= 0).all()) and _are_ones(columns.sum(1)):
        return "probabilities (they sum to 1)"
    if bool((columns <= 0).all()) and _are_ones(columns.exp().sum(1)):
        return "log-probabilities (they sum to 1)"
    return None


def _are_ones(sums: Tensor) -> bool:
    return bool(((sums - 1).abs() < 1e-4).all())


def sigmoids_before_the_output(model: nn.Module, x: Inputs) -> int:
    """Return how many sigmoids a pass calls if the last of them is the output, else 0.

    Parameters
    ----------
    model : Module
        The model.
    x : Tensor of shape (B, *input)
        A few rows. Cost: a forward pass.

    Returns
    -------
    int
        The number of calls.
    """
    with torch.no_grad(), _Sigmoids() as sigmoids:
        output = main_output(model, x)
    return sigmoids.calls_before(output)


class _Sigmoids(TorchFunctionMode):
    """Counts the calls of sigmoid and keeps what the last one gave."""

    def __init__(self) -> None:
        super().__init__()
        self.n_calls = 0
        self.last: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _SIGMOIDS:
            self.n_calls, self.last = self.n_calls + 1, result
        return result

    def calls_before(self, output: Tensor) -> int:
        """Return the number of calls if the last one gave the output, else 0."""
        if self.last is None or output.numel() != self.last.numel():
            return 0
        return self.n_calls if torch.equal(output.flatten(), self.last.flatten()) else 0


class BeforeSigmoid(TorchFunctionMode):
    """Lets the n-th call of sigmoid return what it was given.

    Parameters
    ----------
    n_th : int
        Counted from 1.
    """

    def __init__(self, n_th: int) -> None:
        super().__init__()
        self.left = n_th

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a function, unless it is that call."""
        if func in _SIGMOIDS:
            self.left -= 1
            if self.left == 0:
                return args[0] if args else (kwargs or {})["input"]
        return func(*args, **(kwargs or {}))
