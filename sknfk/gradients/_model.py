"""A model seen through a density: one function of parameters and rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from .._typing import Inputs, ParameterDict
from ..densities import Density
from ._folded import FoldedProducts
from ._parameters import ParameterSpace

__all__ = ["LogDensityModel"]


class LogDensityModel(nn.Module):
    """f(theta, x) = log p(x; theta) for a module and a density.

    One module around both, so that substituted parameters reach ``forward`` and
    every other method of the model that the density calls.

    Parameters
    ----------
    model : Module
        In eval mode.
    density : Density
        What its output means.
    parameters : ParameterSpace
        The parameters that are differentiated.
    unpack : callable or None, default=None
        From packed rows to what the model takes, where that is more than one tensor.
    """

    def __init__(
        self,
        model: nn.Module,
        density: Density,
        parameters: ParameterSpace,
        unpack: Callable[[Tensor], Inputs] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.density = density
        self.parameter_space = parameters
        self.unpack = unpack
        selected = set(parameters.names)
        self._others = [name for name, _ in model.named_parameters() if name not in selected]

    def forward(self, x: Tensor, then: Callable[[Tensor], Any] | None = None) -> Any:
        """Return the log-densities (B,) of rows x (B, *input), or ``then`` of them."""
        with FoldedProducts() if x.device.type == "cpu" else contextlib.nullcontext():
            log_densities = self.density.log_density(self.model, self.inputs(x))
            return log_densities if then is None else then(log_densities)

    def inputs(self, x: Tensor) -> Inputs:
        """Return rows (B, *input) as the model takes them."""
        # A copy: a first layer that works in place would change the rows for the next call.
        return x.clone() if self.unpack is None else self.unpack(x)

    def values(self) -> ParameterDict:
        """Return the selected parameters' values, detached."""
        return self.parameter_space.values(self.model)

    def at(self, values: ParameterDict, x: Tensor, then: Callable[[Tensor], Any] | None = None) -> Any:
        """Return the log-densities (B,) with other values of the selected parameters.

        The model's other parameters need no gradient here, whatever the module says.
        ``then`` of them is returned, if given, and computed while the values are in place.
        """
        substituted = {f"model.{name}": value for name, value in values.items()}
        if self._others:
            own = dict(self.model.named_parameters())
            substituted.update({f"model.{name}": own[name].detach() for name in self._others})
        return functional_call(self, substituted, (x, then))
