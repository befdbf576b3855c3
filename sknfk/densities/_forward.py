"""Calling a model, and taking what is meant from what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .._typing import Inputs

__all__ = [
    "call_model",
    "described",
    "forward_logits",
    "forward_scalar",
    "label_logits",
    "main_of",
    "main_output",
    "n_rows",
    "one_tensor",
    "output_message",
]

# What of several named outputs stands for the model, the first that is there: as Hugging Face names them.
_MAIN_OUTPUTS = ("logits", "pooler_output")


def n_rows(x: Inputs) -> int:
    """Return the number of rows, B."""
    return len(next(iter(x.values()))) if isinstance(x, Mapping) else len(x)


def one_tensor(x: Inputs, density: Any) -> Tensor:
    """Return rows that are one tensor; refuse parts by name for a density that computes with x itself."""
    if isinstance(x, Mapping):
        raise TypeError(
            f"{type(density).__name__} needs X as one array. Got the parts {', '.join(x)}; pass a callable "
            "(model, x) -> (B,) as `density`, which gets the parts as a dict."
        )
    return x


def main_output(model: nn.Module, x: Inputs) -> Tensor:
    """Call the model and return its main output.

    Parameters
    ----------
    model : Module
        Returns a tensor, a tuple that begins with one, or a dict or object with
        ``logits``.
    x : Tensor of shape (B, *input), or mapping of str to Tensor
        Rows; parts are passed as arguments of their names.

    Returns
    -------
    Tensor of shape (B, ...)
        The output.
    """
    output = main_of(call_model(model, x))
    if not isinstance(output, Tensor):
        raise TypeError(output_message(output, n_rows(x)))
    return output


def call_model(model: nn.Module, x: Inputs) -> Any:
    """Call the model, on arguments by name where x has parts."""
    return model(**x) if isinstance(x, Mapping) else model(x)


def main_of(output: Any) -> Any:
    """Return what of a model's output stands for the model, or the output itself."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple | list) and output:
        return output[0]
    for name in _MAIN_OUTPUTS:
        main = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(main, Tensor):
            return main
    return next(iter(output.values())) if isinstance(output, Mapping) and len(output) == 1 else output


def forward_logits(model: nn.Module, x: Inputs) -> Tensor:
    """Return the model's output as logits (B, C); one column f stands for (-f/2, f/2)."""
    columns = label_logits(model, x)
    if columns.shape[1] > 1:
        return columns
    half = columns / 2
    return torch.cat([-half, half], dim=1)  # (B, 2)


def label_logits(model: nn.Module, x: Inputs) -> Tensor:
    """Return the model's output as it is, (B, C)."""
    output = main_output(model, x)
    columns = _without_trailing_ones(output)
    if columns.ndim != 2 or len(columns) != n_rows(x):
        raise ValueError(output_message(output, n_rows(x)))
    return columns


def forward_scalar(model: nn.Module, x: Inputs) -> Tensor:
    """Return the model's output as one scalar per row, (B,)."""
    output = main_output(model, x)
    columns = _without_trailing_ones(output)
    if columns.shape != (n_rows(x), 1):
        raise ValueError(output_message(output, n_rows(x)))
    return columns[:, 0]


def output_message(output: Any, n_rows: int) -> str:
    """Say which outputs have a meaning, which one was got and what to do."""
    return (
        "`model` must return one scalar per row, (N,) or (N, 1), or a row of logits, (N, C). "
        f"Got {described(output)} for {n_rows} rows. Choose its density: Variational() for a VAE with `encode` and "
        "`decode`, Embedding() for a backbone without a head, LogProb(method=...) for a method that gives log p(x), "
        "LanguageModel() for logits of the next token, (N, T, n_tokens), all of sknfk.densities; or pass `density` as "
        "a callable (model, x) -> (B,) that reduces the output."
    )


def _without_trailing_ones(output: Tensor) -> Tensor:
    """Return (B,), (B, 1), (B, 1, 1, 1) as (B, 1), and (B, C, 1, 1) as (B, C)."""
    if output.ndim == 1:
        return output[:, None]
    while output.ndim > 2 and output.shape[-1] == 1:
        output = output[..., 0]
    return output


def described(value: Any) -> str:
    """Return what a value is, in words."""
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__}"
