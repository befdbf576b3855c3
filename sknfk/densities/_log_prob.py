"""Models that give log p(x): flows and autoregressive models."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral

import torch
from torch import Tensor, nn

from .._typing import Inputs, LogDensityFunction
from ._base import Density, called, row_values
from ._forward import forward_scalar, one_tensor

__all__ = ["LogProb"]


@dataclass(frozen=True, repr=False, eq=False)
class LogProb(Density):
    """The model returns log p(x) in nats: a flow or an autoregressive model.

    A flow of grey values needs noise between their steps. It is drawn once and
    shared by all rows, so that log p(x) stays a function of x:
    ``mean_s log p(x + u_s)``, which bounds the log-probability of the grey values
    from below [1]_.

    Parameters
    ----------
    method : str, callable or None, default=None
        The method of the model that gives log p(x), such as "log_prob", or a
        callable ``(model, x) -> (B,)``; None calls the model.
    dequantize : {"add", "pass"} or None, default=None
        "add" adds noise, uniform in [0, 1), to the rows; "pass" hands it to the
        method as a second argument; None uses none.
    n_draws : int, default=1
        Draws of the noise; the model reads every row as many times.
    noise : Tensor of shape (n_draws, *input) or None, default=None
        The noise itself; None draws it in ``fit``.

    References
    ----------
    .. [1] Theis, van den Oord, Bethge. "A note on the evaluation of generative
       models", ICLR 2016, section 3.1.

    Examples
    --------
    >>> import torch
    >>> from sknfk.densities import LogProb
    >>> LogProb().log_density(torch.nn.Identity(), torch.ones(2))
    tensor([1., 1.])
    """

    method: str | LogDensityFunction | None = None
    dequantize: str | None = None
    n_draws: int = 1
    noise: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.dequantize not in ("add", "pass", None):
            raise ValueError(f"`dequantize` must be 'add', 'pass' or None. Got {self.dequantize!r}.")
        if not (isinstance(self.n_draws, Integral) and self.n_draws >= 1):
            raise ValueError(
                f"`n_draws` must be an integer, at least 1. Got {self.n_draws!r}; more draws have less noise."
            )

    def prepared(self, model: nn.Module, x: Inputs, rng: torch.Generator) -> LogProb:
        """Draw the noise, if there is to be any.

        Parameters
        ----------
        model : Module
            Not asked.
        x : Tensor of shape (B, *input)
            Rows, for their shape.
        rng : torch.Generator
            On the CPU.

        Returns
        -------
        LogProb
            With its noise.
        """
        if self.dequantize is None or self.noise is not None:
            return self
        x = one_tensor(x, self)
        return replace(self, noise=torch.rand(self.n_draws, *x.shape[1:], generator=rng, dtype=torch.float64))

    def log_density(self, model: nn.Module, x: Inputs) -> Tensor:
        """Return log p(x), the mean over the draws of the noise.

        Parameters
        ----------
        model : Module
            The model.
        x : Tensor of shape (B, *input)
            Rows.

        Returns
        -------
        Tensor of shape (B,)
            Log-probabilities, in nats.
        """
        if self.dequantize is None:
            return self._of(model, x)
        x = one_tensor(x, self)
        if self.noise is None:
            raise ValueError("`LogProb` must be prepared where it dequantises. Use what its method `prepared` returns.")
        noise = self.noise.to(device=x.device, dtype=_floating(x.dtype))
        # Rows of an example lie side by side, so that each draw is one more position of it.
        repeated, drawn = x.repeat_interleave(len(noise), 0), noise.repeat(len(x), *(1,) * (x.ndim - 1))
        values = self._of(model, repeated + drawn) if self.dequantize == "add" else self._of(model, repeated, drawn)
        return values.view(len(x), -1).mean(1)

    def _of(self, model: nn.Module, x: Inputs, *noise: Tensor) -> Tensor:
        if self.method is None and not noise:
            return forward_scalar(model, x)
        values = called(self.method or "__call__", model, x, *noise)
        return row_values(values, x, f"`method` {self.method!r}" if self.method else "`model`")


def _floating(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point else torch.get_default_dtype()
