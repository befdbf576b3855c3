"""Backbones without a head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral

import torch
from torch import Tensor, nn

from .._typing import Inputs
from ._base import Density
from ._forward import main_output, n_rows, output_message

__all__ = ["Embedding"]


@dataclass(frozen=True, repr=False, eq=False)
class Embedding(Density):
    """log p(x) = ||h(x)||^2 / 2, or ||R h(x)||^2 / 2 for a fixed random R.

    A backbone h gives features and no density; this is a choice of one, not a
    derivation: the energy that a linear layer of unit Gaussian weights would find,
    whose gradient weighs each parameter by the features it moves. It may serve better
    than a classifier's free energy too, on data unlike those that the classifier was
    trained on: compare the two.

    Parameters
    ----------
    projection : int or None, default=None
        Rows of R, whose entries are Gaussian of variance one over their number;
        None takes all of h.
    matrix : Tensor of shape (projection, d) or None, default=None
        R itself; None draws it in ``fit``.

    Examples
    --------
    >>> import torch
    >>> from sknfk.densities import Embedding
    >>> Embedding().log_density(torch.nn.Identity(), torch.tensor([[3.0, 4.0]]))
    tensor([12.5000])
    """

    projection: int | None = None
    matrix: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse what is no number of rows."""
        if self.projection is not None and not (isinstance(self.projection, Integral) and self.projection >= 1):
            raise ValueError(
                f"`projection` must be a number of rows, at least 1, or None. Got {self.projection!r}; None keeps all."
            )

    def prepared(self, model: nn.Module, x: Inputs, rng: torch.Generator) -> Embedding:
        """Draw the projection, if there is to be one.

        Parameters
        ----------
        model : Module
            The backbone.
        x : Tensor of shape (B, *input)
            A few rows.
        rng : torch.Generator
            On the CPU.

        Returns
        -------
        Embedding
            With its projection.
        """
        if self.projection is None or self.matrix is not None:
            return self
        shape = (self.projection, _features(model, x).shape[1])
        drawn = torch.randn(shape, generator=rng, dtype=torch.float64)
        return replace(self, matrix=drawn * self.projection**-0.5)

    def log_density(self, model: nn.Module, x: Inputs) -> Tensor:
        """Return half the squared length of the features.

        Parameters
        ----------
        model : Module
            Returns features, (B, ...).
        x : Tensor of shape (B, *input)
            Rows.

        Returns
        -------
        Tensor of shape (B,)
            Halves of squared lengths.
        """
        features = _features(model, x)  # (B, d)
        if self.projection is not None:
            if self.matrix is None:
                raise ValueError(
                    "`Embedding` must be prepared before it projects. Use what its method `prepared` returns."
                )
            features = features @ self.matrix.to(features).T
        return 0.5 * features.square().sum(1)


def _features(model: nn.Module, x: Inputs) -> Tensor:
    output = main_output(model, x)
    if output.ndim < 2 or len(output) != n_rows(x):
        raise ValueError(output_message(output, n_rows(x)))
    return output.flatten(1)
