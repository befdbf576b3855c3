"""Densities that read one number off the model's output."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .._typing import Inputs
from ._base import Density
from ._forward import forward_logits, forward_scalar

__all__ = ["Logit", "Output"]


@dataclass(frozen=True, repr=False)
class Logit(Density):
    """One logit of a classifier: f_y(x) for a chosen y.

    With ``fisher="identity", center=False`` the kernel is the empirical neural
    tangent kernel of that logit. A model with one column f has the two logits
    (-f/2, f/2).

    Parameters
    ----------
    which : int, "argmax" or "sum", default="argmax"
        The class whose logit is taken, the largest logit of each row (the argmax
        approximation of the Fisher kernel), or the sum of all logits (the
        pseudo-NTK of Mohamadi et al., 2023).

    Examples
    --------
    >>> import torch
    >>> from sknfk.densities import Logit
    >>> Logit("sum").log_density(torch.nn.Identity(), torch.tensor([[1.0, 2.0, 4.0]]))
    tensor([7.])
    """

    which: int | str = "argmax"

    def __post_init__(self) -> None:
        """Refuse what is neither a class nor one of the two reductions."""
        if not isinstance(self.which, int) and self.which not in ("argmax", "sum"):
            raise ValueError(f"`which` must be a class index, 'argmax' or 'sum'. Got {self.which!r}.")

    def log_density(self, model: nn.Module, x: Inputs) -> Tensor:
        """Return the chosen logit.

        Parameters
        ----------
        model : Module
            Returns logits, (B, C) or one column.
        x : Tensor of shape (B, *input)
            Rows.

        Returns
        -------
        Tensor of shape (B,)
            Logits.
        """
        logits = forward_logits(model, x)  # (B, C)
        if self.which == "argmax":
            return logits.amax(dim=1)
        if self.which == "sum":
            return logits.sum(dim=1)
        index, n_classes = int(self.which), logits.shape[1]
        if not -n_classes <= index < n_classes:
            raise ValueError(
                f"`which` must be a class of the model, 0 to {n_classes - 1}. Got {index}; count the classes from 0."
            )
        return logits[:, index]


@dataclass(frozen=True, repr=False)
class Output(Density):
    """The model's only output is the log-density: minus the energy, or any score.

    Examples
    --------
    >>> import torch
    >>> from sknfk.densities import Output
    >>> Output().log_density(torch.nn.Identity(), torch.ones(2, 1))
    tensor([1., 1.])
    """

    def log_density(self, model: nn.Module, x: Inputs) -> Tensor:
        """Return the model's output.

        Parameters
        ----------
        model : Module
            Returns one scalar per row, (B,) or (B, 1).
        x : Tensor of shape (B, *input)
            Rows.

        Returns
        -------
        Tensor of shape (B,)
            Outputs.
        """
        return forward_scalar(model, x)
