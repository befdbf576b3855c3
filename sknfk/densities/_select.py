"""From the option ``density`` and the model's output to a density."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from .._typing import Inputs
from ._base import CallableDensity, Density
from ._classifier import Classifier
from ._discriminator import Discriminator
from ._forward import call_model, main_of, n_rows, output_message
from ._language import LanguageModel
from ._log_prob import LogProb
from ._outputs import Output
from ._variational import Variational

__all__ = ["DENSITIES", "select_density"]

DENSITIES: dict[str, type[Density]] = {
    "classifier": Classifier,
    "discriminator": Discriminator,
    "elbo": Variational,
    "language_model": LanguageModel,
    "log_prob": LogProb,
    "output": Output,
}


def select_density(
    density: str | Density | Callable, model: nn.Module | None = None, x: Inputs | None = None
) -> tuple[Density, str]:
    """Resolve the option ``density``.

    Parameters
    ----------
    density : "auto", a name of ``DENSITIES``, Density or callable
        ``"auto"`` looks at the model's output: (N, C >= 2) is taken as logits,
        (N,) or (N, 1) as the log-density itself; a tuple of several outputs needs a name.
    model : Module, optional
        Asked for its output where ``density="auto"``.
    x : Tensor of shape (B, *input), optional
        Rows to try it on. Cost: one forward pass of these rows.

    Returns
    -------
    density : Density
        The density.
    reason : str
        One sentence on why it was chosen and what the alternative is.

    Raises
    ------
    ValueError
        If the output is neither a scalar per row nor a row of logits.
    TypeError
        If the model has several outputs, or a class is given.

    Examples
    --------
    >>> import torch
    >>> from sknfk.densities import select_density
    >>> select_density("auto", torch.nn.Linear(3, 10), torch.zeros(2, 3))[0]
    Classifier()
    """
    if isinstance(density, type):
        raise TypeError(
            f"`density` must be an instance. Got the class {density.__name__}; pass `{density.__name__}()`."
        )
    if isinstance(density, Density):
        return density, "It was given."
    if isinstance(density, str) and density != "auto":
        return DENSITIES[density](), "It was given by name."
    if callable(density):
        return CallableDensity(density), "It was given as a callable."
    assert model is not None and x is not None
    if type(model).forward is nn.Module.forward:
        raise ValueError(
            f"`density` must be named for a model without `forward`. Got 'auto' for {type(model).__name__}; pass "
            "density='elbo' where it has `encode` and `decode`, or LogProb(method=...) where a method gives log p(x)."
        )
    returned, B = call_model(model, x), n_rows(x)
    output = main_of(returned)
    # Of several outputs the first may be anything: an autoencoder's is no row of logits.
    if not isinstance(output, Tensor) or (isinstance(returned, tuple | list) and len(returned) > 1):
        raise TypeError(output_message(returned, B))
    n_columns = output[0].numel() if output.ndim and len(output) == B else 0
    if n_columns == 1:
        return Output(), (
            "The model has one output column, taken as the log-density itself (density='output'); "
            "for the logit of a binary classifier pass density='classifier'."
        )
    if n_columns < 2 or output.squeeze().ndim > 2 or n_columns != output.shape[1]:
        raise ValueError(output_message(output, B))
    return Classifier(), f"The model has {n_columns} output columns, taken as logits (density='classifier')."
