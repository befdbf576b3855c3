"""What a density is: one model's meaning as log p(x), row by row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._typing import LogDensityFunction

__all__ = ["CallableDensity", "Density", "forward_logits", "forward_scalar"]


class Density(ABC):
    """Base class of log-densities: configuration that does not hold the model.

    Subclass it and write :meth:`log_density`. The library owns parameters, batches
    and devices; the density writes the mathematics, row by row independent.

    Examples
    --------
    >>> from sknfk.densities import Density
    >>> class Gaussian(Density):
    ...     def log_density(self, model, x):  # (B, *input) -> (B,)
    ...         return -0.5 * (x - model(x)).square().sum(1)
    """

    @abstractmethod
    def log_density(self, model: nn.Module, x: Tensor) -> Tensor:
        """Return the unnormalised log-density of each row.

        Parameters
        ----------
        model : Module
            In eval mode; its parameters may be stand-ins, so call it, do not copy it.
        x : Tensor of shape (B, *input)
            Rows; the result's row i may depend on ``x[i]`` alone.

        Returns
        -------
        Tensor of shape (B,)
            Log-densities, in nats, up to a constant.
        """

    def __repr__(self) -> str:
        """Name the class and its settings."""
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


@dataclass(frozen=True, repr=False)
class CallableDensity(Density):
    """A function ``f(model, x) -> (B,)`` as a density.

    Parameters
    ----------
    function : callable
        Takes the module and x of shape (B, *input), returns log-densities (B,).
    """

    function: LogDensityFunction

    def log_density(self, model: nn.Module, x: Tensor) -> Tensor:
        """Return ``function(model, x)``.

        Parameters
        ----------
        model : Module
            The model.
        x : Tensor of shape (B, *input)
            Rows.

        Returns
        -------
        Tensor of shape (B,)
            Log-densities.
        """
        values = self.function(model, x)
        if not isinstance(values, Tensor) or values.shape != (len(x),):
            raise ValueError(
                f"`density` as a callable must return a tensor of shape (B,), one scalar per row. "
                f"Got {_describe(values)} for B = {len(x)}."
            )
        return values


def forward_logits(model: nn.Module, x: Tensor) -> Tensor:
    """Return the model's output as logits (B, C); one column f stands for (-f/2, f/2)."""
    output = model(x)
    if not isinstance(output, Tensor):
        raise TypeError(output_message(output, len(x)))
    columns = _without_trailing_ones(output)
    if columns.shape == (len(x), 1):
        half = columns / 2
        return torch.cat([-half, half], dim=1)  # (B, 2)
    if columns.ndim != 2 or len(columns) != len(x):
        raise ValueError(output_message(output, len(x)))
    return columns


def forward_scalar(model: nn.Module, x: Tensor) -> Tensor:
    """Return the model's output as one scalar per row, (B,)."""
    output = model(x)
    if not isinstance(output, Tensor):
        raise TypeError(output_message(output, len(x)))
    columns = _without_trailing_ones(output)
    if columns.shape != (len(x), 1):
        raise ValueError(output_message(output, len(x)))
    return columns[:, 0]


def output_message(output: Any, n_rows: int) -> str:
    """Say which outputs have a meaning, which one was got and what to do."""
    return (
        "`model` must return one scalar per row, (N,) or (N, 1), or a row of logits, (N, C). "
        f"Got {_describe(output)} for {n_rows} rows; add a head, or pass `density` as a callable "
        "(model, x) -> (B,) that reduces the output, such as "
        "`def density(model, x): return 0.5 * model(x).flatten(1).square().sum(1)`."
    )


def _without_trailing_ones(output: Tensor) -> Tensor:
    """Return (B,), (B, 1), (B, 1, 1, 1) as (B, 1), and (B, C, 1, 1) as (B, C)."""
    if output.ndim == 1:
        return output[:, None]
    while output.ndim > 2 and output.shape[-1] == 1:
        output = output[..., 0]
    return output


def _describe(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__}"
