"""What a density is: one model's meaning as log p(x), row by row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._portable import PortableModule
from .._typing import Inputs, LogDensityFunction
from ._forward import described, n_rows

__all__ = ["CallableDensity", "Density", "called", "row_values"]

SAMPLES_AT_ONCE = 128  # whatever the batch size is, so that it does not change the samples


class Density(ABC):
    """Base class of log-densities: configuration that does not hold the model.

    Subclass it and write :meth:`log_density`. The library owns parameters, batches
    and devices; the density writes the mathematics, row by row independent. Where X
    has parts by name, x is a dict of their tensors.

    Examples
    --------
    >>> from sknfk.densities import Density
    >>> class Gaussian(Density):
    ...     def log_density(self, model, x):  # (B, *input) -> (B,)
    ...         return -0.5 * (x - model(x)).square().sum(1)
    """

    @abstractmethod
    def log_density(self, model: nn.Module, x: Inputs) -> Tensor:
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

    @property
    def sampling(self) -> str | None:
        """How :meth:`sample` draws: "exact", "iterative" or, not at all, None.

        "exact" takes one pass; statistics are then the model's by themselves.
        """
        return None

    def prepared(self, model: nn.Module, x: Inputs, rng: torch.Generator) -> Density:
        """Return the density as one fit uses it, with everything that is random drawn.

        A log-density is a deterministic function of each row: noise is drawn here,
        once, shared by all rows and kept with the fitted estimator.

        Parameters
        ----------
        model : Module
            The fit's own copy, in eval mode, on its device.
        x : Tensor of shape (B, *input)
            A few rows.
        rng : torch.Generator
            On the CPU; the only source of randomness.

        Returns
        -------
        Density
            Ready for :meth:`log_density`.
        """
        return self

    def sample(self, model: nn.Module, n_samples: int, rng: torch.Generator) -> Tensor:
        """Draw examples from the model; called on a prepared density.

        Parameters
        ----------
        model : Module
            The fit's own copy.
        n_samples : int
            How many.
        rng : torch.Generator
            On the CPU.

        Returns
        -------
        Tensor of shape (n_samples, *input)
            Examples.
        """
        raise ValueError(
            f"`statistics` must be 'data' or an array of samples with {self!r}, which cannot sample. Got 'model'; "
            "wrap the density in `sknfk.densities.Sampled(density, sampler)` to draw samples by a Markov chain."
        )

    def parameter_groups(self, model: nn.Module, x: Inputs) -> Mapping[str, Sequence[str]]:
        """Return names of parts of the model and those of their parameters.

        Parameters
        ----------
        model : Module
            The fit's own copy.
        x : Tensor of shape (B, *input)
            A few rows.

        Returns
        -------
        mapping of str to sequence of str
            Such as "decoder" and the names of its parameters.
        """
        return {}

    def __sklearn_clone__(self) -> Density:
        """Return the density itself: it is never changed, and clones share its networks."""
        return self

    def __repr__(self) -> str:
        """Name the class and the settings that are not its defaults."""
        defaults: dict[str, Any] = {field.name: field.default for field in fields(self)} if is_dataclass(self) else {}
        settings = [f"{k}={_short(v)}" for k, v in vars(self).items() if not (k in defaults and _is(v, defaults[k]))]
        return f"{type(self).__name__}({', '.join(settings)})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings with networks and tensors as numpy arrays, which load anywhere."""
        return {name: _portable(value) for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the settings, networks and tensors on the CPU."""
        vars(self).update({name: _restored(value) for name, value in state.items()})


@dataclass(frozen=True)
class _PortableTensor:
    array: np.ndarray


def _portable(value: Any) -> Any:
    if isinstance(value, nn.Module):
        return PortableModule(value)
    return _PortableTensor(value.detach().cpu().numpy()) if isinstance(value, Tensor) else value


def _restored(value: Any) -> Any:
    if isinstance(value, PortableModule):
        return value.restore()
    return torch.from_numpy(np.array(value.array)) if isinstance(value, _PortableTensor) else value


def _is(value: Any, default: Any) -> bool:
    return value is default or (isinstance(value, int | float | str | tuple) and value == default)


def _short(value: Any) -> str:
    if isinstance(value, nn.Module):
        return f"{type(value).__name__}(...)"
    return f"<tensor {tuple(value.shape)}>" if isinstance(value, Tensor) else repr(value)


def called(which: str | Callable, model: nn.Module, x: Inputs, *more: Tensor) -> Any:
    """Call a method of the model by its name, or a function of the model."""
    if not isinstance(which, str):
        return which(model, x, *more)
    method = getattr(model, which, None)
    if method is None:
        raise ValueError(
            f"`model` must have a method '{which}'. {type(model).__name__} has none; name another, or pass a "
            "callable of the model and its inputs."
        )
    return method(*more, **x) if isinstance(x, Mapping) else method(x, *more)


def row_values(values: Any, x: Inputs, what: str) -> Tensor:
    """Return values as (B,), or refuse them."""
    B = n_rows(x)
    if isinstance(values, Tensor) and values.numel() == B:
        return values.reshape(B)
    raise ValueError(
        f"{what} must return one scalar per row, (B,). Got {described(values)} for B = {B}; "
        "sum over all axes but the first."
    )


@dataclass(frozen=True, repr=False)
class CallableDensity(Density):
    """A function ``f(model, x) -> (B,)`` as a density.

    Parameters
    ----------
    function : callable
        Takes the module and x of shape (B, *input), returns log-densities (B,).
    """

    function: LogDensityFunction

    def log_density(self, model: nn.Module, x: Inputs) -> Tensor:
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
        if not isinstance(values, Tensor) or values.shape != (n_rows(x),):
            raise ValueError(
                f"`density` as a callable must return a tensor of shape (B,), one scalar per row. "
                f"Got {described(values)} for B = {n_rows(x)}; reduce all axes but the first."
            )
        return values
