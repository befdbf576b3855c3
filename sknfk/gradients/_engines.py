"""Which engine serves a model, tried on two examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from .._products import long_product
from ..exceptions import UnsupportedByEngineError
from ._block import GradientBlock
from ._cost import engine_costs, forward_flops
from ._jvp import JvpEngine
from ._layerwise import LayerwiseEngine
from ._loop import LoopEngine
from ._model import LogDensityModel
from ._parameters import ParameterSpace
from ._vmap import REFUSALS, VmapEngine

__all__ = ["ENGINES", "Engine", "make_engine", "select_engine"]

ENGINES = ("layerwise", "vmap", "loop", "jvp")


class Engine(Protocol):
    """Turns a batch into a block of gradients.

    ``forming`` names the engine that forms gradients for it: itself, but for "jvp".
    ``decided`` is what it found out about the model once, as plain data, or None.
    """

    name: str
    forming: str

    @property
    def decided(self) -> Any:
        """What it found out about the model once."""
        ...

    def __call__(self, x: Tensor) -> GradientBlock:
        """Return the gradients of rows x (B, *input)."""
        ...


def make_engine(name: str, model: LogDensityModel, *, forming: str = "vmap", decided: Any = None) -> Engine:
    """Return an engine by name.

    Parameters
    ----------
    name : {"layerwise", "vmap", "loop", "jvp"}
        The engine.
    model : LogDensityModel
        What it differentiates.
    forming : {"vmap", "loop"}, default="vmap"
        What "jvp" forms gradients with where statistics need their squares.
    decided : object or None, default=None
        ``decided`` of an engine of that name for the same model.

    Returns
    -------
    Engine
        The engine.
    """
    factories: dict[str, Callable[[], Engine]] = {
        "layerwise": lambda: LayerwiseEngine(model, decided),
        "vmap": lambda: VmapEngine(model),
        "loop": lambda: LoopEngine(model),
        "jvp": lambda: JvpEngine(model, make_engine(forming, model)),
    }
    return factories[name]()


def select_engine(name: str, model: LogDensityModel, x: Tensor) -> tuple[Engine, str]:
    """Resolve the option ``engine``, checked against plain autograd.

    Parameters
    ----------
    name : {"auto", "layerwise", "vmap", "loop", "jvp"}
        The option. ``"auto"`` is layerwise or, where its rules leave parameters over and
        a second pass for them costs more (:func:`engine_costs`), vmap; where neither
        serves the model, loop.
    model : LogDensityModel
        What is differentiated.
    x : Tensor of shape (B, *input)
        A few examples. Cost: their gradients, twice.

    Returns
    -------
    engine : Engine
        The engine.
    reason : str
        One sentence on the choice.

    Raises
    ------
    UnsupportedByEngineError
        If the engine asked for fails on the examples, or its gradients differ
        from plain autograd's.
    """
    reference = LoopEngine(model)(x).rows()
    if name == "loop":
        return make_engine(name, model), "It was given by name."
    if name != "auto":
        return _checked(name, model, x, reference), "It was given by name."
    try:
        layerwise = _checked("layerwise", model, x, reference)
        names, n_left_over = _left_over(layerwise, x)
        costs = engine_costs(forward_flops(model, x), model.parameter_space.n_parameters, n_left_over)
        compared = f"{costs.layerwise / 1e6:.2g} million operations an example, vmap {costs.vmap / 1e6:.2g}"
        if costs.layerwise <= costs.vmap:
            left = f" but for {', '.join(names)}, which fall to another engine" if names else ""
            return layerwise, f"Its rules know every use of the parameters{left}; {compared}."
        why = f"no rule for {', '.join(names)}, and the second pass would make it {compared}"
    except UnsupportedByEngineError as error:
        why = str(error)
    try:
        return _checked("vmap", model, x, reference), f"vmap forms all gradients of a batch at once; layerwise: {why}"
    except UnsupportedByEngineError as error:
        return make_engine("loop", model), f"The loop serves every model; {error}"


def _left_over(engine: Engine, x: Tensor) -> tuple[tuple[str, ...], int]:
    """Return the parameters that a layerwise engine has no rule for, and their size."""
    assert isinstance(engine, LayerwiseEngine)
    space, names = engine.model.parameter_space, engine.unserved(x)
    return names, sum(size for name, size in zip(space.names, space.sizes, strict=True) if name in names)


def _checked(name: str, model: LogDensityModel, x: Tensor, reference: Tensor) -> Engine:
    try:
        forming = "vmap" if name != "jvp" or _vmap_serves(model, x) else "loop"
        engine = make_engine(name, model, forming=forming)
        _require_same(name, engine(x), reference, model.parameter_space)
        if name == "layerwise" and _left_over(engine, x)[1] == model.parameter_space.n_parameters:
            raise UnsupportedByEngineError(
                "engine='layerwise' knows no rule for any of the model's parameters. "
                "Use engine='vmap' or engine='loop'."
            )
    except UnsupportedByEngineError:
        raise
    except REFUSALS as refusal:
        raise UnsupportedByEngineError(
            f"engine='{name}' cannot serve this model ({first_line(refusal)}). "
            "Use engine='loop', which serves every model."
        ) from refusal
    return engine


def _require_same(name: str, block: GradientBlock, reference: Tensor, space: ParameterSpace) -> None:
    """Compare J^T I with the reference J parameter by parameter, and J J^T with its Gram matrix."""
    eye = torch.eye(len(reference), dtype=reference.dtype, device=reference.device)
    wrong = (block.rmatmat(eye).T - reference).square().sum(0)
    size = reference.square().sum(0)
    # Reordered sums cost a few eps; sqrt(eps) is far above them and far below a wrong rule. What
    # cancels (a key's bias in attention) is compared with a thousandth of the whole gradient.
    tolerance = torch.finfo(reference.dtype).eps ** 0.5
    least = 1e-3 * size.sum().sqrt()
    for parameter, w, s in zip(space.names, wrong.split(space.sizes), size.split(space.sizes), strict=True):
        error = float(w.sum().sqrt() / s.sum().sqrt().clamp_min(least).clamp_min(1e-300))
        if not error <= tolerance:
            raise _differs(name, f"by {error:.1e} of the norm for '{parameter}'", len(reference))
    gram = long_product(reference, reference.T)
    error = float((block.matmat(reference.T.contiguous()) - gram).norm() / gram.norm().clamp_min(1e-300))
    if not error <= tolerance:
        raise _differs(name, f"by {error:.1e} of the norm in a product", len(reference))


def _differs(name: str, how: str, n_rows: int) -> UnsupportedByEngineError:
    return UnsupportedByEngineError(
        f"engine='{name}' gives gradients that differ from plain autograd's, {how}, on {n_rows} examples. "
        "Use engine='loop', which is plain autograd."
    )


def _vmap_serves(model: LogDensityModel, x: Tensor) -> bool:
    try:
        VmapEngine(model)(x)
    except REFUSALS:
        return False
    return True


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
