"""What must hold of a model before anything heavy starts, tried on a few rows."""

from __future__ import annotations

import torch
from torch import Tensor

from ._engines import first_line
from ._loop import LoopEngine
from ._model import LogDensityModel

__all__ = ["check_log_density"]


def check_log_density(model: LogDensityModel, x: Tensor) -> None:
    """Check that f(x) is a deterministic function of x, row by row, with a gradient.

    V is one matrix only if an example gives the same gradient alone, in a batch,
    and twice in a row. Cost: a few passes over the rows given.

    Parameters
    ----------
    model : LogDensityModel
        The model, seen through its density.
    x : Tensor of shape (B, *input)
        A few rows, at least two.

    Raises
    ------
    ValueError
        If the values or gradients change from call to call or with the rest of
        the batch, do not depend on the selected parameters, or are not finite.
    """
    once, again = _values(model, x), _values(model, x)
    if not torch.isfinite(once).all():
        raise ValueError(
            f"The log-density must be finite. The model gave {once.tolist()} for the first {len(x)} rows; "
            "check the scaling of X that the model was trained with."
        )
    if not _close(once, again):
        raise ValueError(
            "`model` must return the same values for the same X. Two calls on the same rows differ by "
            f"{float((once - again).abs().max()):.1e}; turn off what is random in it in eval mode (dropout, noise)."
        )
    alone = torch.cat([_values_of_one(model, row[None]) for row in x])
    if not _close(once, alone):
        raise ValueError(
            "`model` must treat the examples of a batch one by one. A row's value changes by "
            f"{float((once - alone).abs().max()):.1e} with the rest of its batch; replace what mixes them "
            "(batch statistics, attention over the batch axis)."
        )
    _check_gradient(model, x)


def _check_gradient(model: LogDensityModel, x: Tensor) -> None:
    gradient = LoopEngine(model)(x).rows()  # (B, P)
    bad = ~torch.isfinite(gradient).all(0)
    if bool(bad.any()):
        raise nonfinite_gradient(model.parameter_space.name_of(int(bad.nonzero()[0, 0])))
    if not _close(gradient, LoopEngine(model)(x).rows()):
        raise ValueError(
            "`model` must give the same gradient for the same X. Two calls on the same rows differ; "
            "turn off what is random in its backward pass."
        )
    if not bool(gradient.any()):
        if _is_connected(model, x):
            return  # a flat spot of these rows, not a missing path
        raise ValueError(
            "The log-density must depend on the selected parameters. Its gradient does not exist for any of "
            f"{', '.join(repr(n) for n in model.parameter_space.names[:3])}; check `parameters`, and that the model's "
            "forward keeps the graph (no `torch.no_grad`, no `.detach()`)."
        )


def nonfinite_gradient(name: str) -> ValueError:
    """Return the error that names the layer whose gradient is not finite.

    Parameters
    ----------
    name : str
        The parameter's name.

    Returns
    -------
    ValueError
        To be raised.
    """
    return ValueError(
        f"Gradients must be finite. That of '{name}' is NaN or infinite; check the scaling of X, "
        "or leave the layer out with `parameters`."
    )


def _values(model: LogDensityModel, x: Tensor) -> Tensor:
    with torch.no_grad():
        values = model(x)
    if values.shape != (len(x),):
        raise ValueError(
            f"A density must return one scalar per row, of shape ({len(x)},). Got {tuple(values.shape)}; "
            "sum over all axes but the first."
        )
    return values


def _values_of_one(model: LogDensityModel, x: Tensor) -> Tensor:
    try:
        return _values(model, x)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"`model` must be able to evaluate one example alone. It raised: {first_line(error)}. "
            "Replace what needs several rows, such as statistics of the batch."
        ) from error


def _is_connected(model: LogDensityModel, x: Tensor) -> bool:
    values = {name: value.clone().requires_grad_() for name, value in model.values().items()}
    return model.at(values, x).requires_grad


def _close(a: Tensor, b: Tensor) -> bool:
    # Another batch size takes other kernels, which round otherwise: sqrt(eps) of the scale.
    scale = max(float(a.abs().max()), 1.0)
    return float((a - b).abs().max()) <= torch.finfo(a.dtype).eps ** 0.5 * scale
