"""The free energy of classifiers, of one label or of many."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._typing import Inputs
from ._forward import forward_logits, label_logits
from ._probabilities import DensityOfLogits

__all__ = ["Classifier", "MultiLabel"]


@dataclass(frozen=True, repr=False)
class Classifier(DensityOfLogits):
    """log p(x) = logsumexp_y f_y(x) + const, minus the free energy of the logits.

    One logit f has the two logits (-f/2, f/2), so log p(x) = log(2 cosh(f/2)).
    This fixes a gauge: adding c(x) to all logits leaves the class probabilities
    alone and changes the density, and with it the Fisher kernel where c depends on
    the parameters.

    References
    ----------
    .. [1] Zhang, Zhai, Littwin, Susskind. "Learning Representation from Neural
       Fisher Kernel with Low-rank Approximation", ICLR 2022, section 3.1.

    Examples
    --------
    >>> import torch
    >>> from sknfk.densities import Classifier
    >>> Classifier().log_density(torch.nn.Identity(), torch.zeros(1, 4)).exp()
    tensor([4.])
    """

    def log_density(self, model: nn.Module, x: Inputs) -> Tensor:
        """Return logsumexp of the logits.

        Parameters
        ----------
        model : Module
            Returns logits, (B, C) or one column.
        x : Tensor of shape (B, *input)
            Rows.

        Returns
        -------
        Tensor of shape (B,)
            Unnormalised log-densities.
        """
        return torch.logsumexp(forward_logits(model, x), dim=1)


@dataclass(frozen=True, repr=False)
class MultiLabel(DensityOfLogits):
    """log p(x) = sum_c log(2 cosh(f_c(x) / 2)) + const, for independent labels.

    Each logit f is a binary classifier with the two logits (-f/2, f/2), as in
    :class:`Classifier`; the free energies of the labels add up.

    Examples
    --------
    >>> import torch
    >>> from sknfk.densities import MultiLabel
    >>> MultiLabel().log_density(torch.nn.Identity(), torch.zeros(1, 3)).exp().round()
    tensor([8.])
    """

    def log_density(self, model: nn.Module, x: Inputs) -> Tensor:
        """Return the sum of the labels' free energies.

        Parameters
        ----------
        model : Module
            Returns one logit for each label, (B, C).
        x : Tensor of shape (B, *input)
            Rows.

        Returns
        -------
        Tensor of shape (B,)
            Unnormalised log-densities.
        """
        half = 0.5 * label_logits(model, x)  # (B, C)
        return torch.logaddexp(half, -half).sum(1)
