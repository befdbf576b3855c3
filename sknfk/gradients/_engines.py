"""Which engine serves a model, tried on two examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ..exceptions import UnsupportedByEngineError
from ._block import GradientBlock
from ._jvp import JvpEngine
from ._loop import LoopEngine
from ._model import LogDensityModel
from ._vmap import VmapEngine

__all__ = ["ENGINES", "Engine", "make_engine", "select_engine"]

ENGINES = ("vmap", "loop", "jvp")

# What torch raises when an operation has no batching rule or no derivative.
_REFUSALS = (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError)


class Engine(Protocol):
    """Turns a batch into a block of gradients.

    ``forming`` names the engine that forms gradients for it: itself, but for "jvp".
    """

    name: str
    forming: str

    def __call__(self, x: Tensor) -> GradientBlock:
        """Return the gradients of rows x (B, *input)."""
        ...


def make_engine(name: str, model: LogDensityModel, *, forming: str = "vmap") -> Engine:
    """Return an engine by name.

    Parameters
    ----------
    name : {"vmap", "loop", "jvp"}
        The engine.
    model : LogDensityModel
        What it differentiates.
    forming : {"vmap", "loop"}, default="vmap"
        What "jvp" forms gradients with where statistics need their squares.

    Returns
    -------
    Engine
        The engine.
    """
    factories: dict[str, Callable[[], Engine]] = {
        "vmap": lambda: VmapEngine(model),
        "loop": lambda: LoopEngine(model),
        "jvp": lambda: JvpEngine(model, make_engine(forming, model)),
    }
    return factories[name]()


def select_engine(name: str, model: LogDensityModel, x: Tensor) -> tuple[Engine, str]:
    """Resolve the option ``engine``, checked against plain autograd.

    Parameters
    ----------
    name : {"auto", "vmap", "loop", "jvp"}
        The option. ``"auto"`` is vmap where it serves the model, else loop.
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
    try:
        engine = _checked(name if name != "auto" else "vmap", model, x, reference)
    except UnsupportedByEngineError as error:
        if name != "auto":
            raise
        return make_engine("loop", model), f"The loop serves every model; {error}"
    return (
        engine,
        "It was given by name." if name != "auto" else "vmap forms all gradients of a batch at once.",
    )


def _checked(name: str, model: LogDensityModel, x: Tensor, reference: Tensor) -> Engine:
    try:
        forming = "vmap" if name != "jvp" or _vmap_serves(model, x) else "loop"
        engine = make_engine(name, model, forming=forming)
        error = max(_relative_errors(engine(x), reference))
    except _REFUSALS as refusal:
        raise UnsupportedByEngineError(
            f"engine='{name}' cannot serve this model ({first_line(refusal)}). "
            "Use engine='loop', which serves every model."
        ) from refusal
    # Reordered sums cost a few eps; sqrt(eps) is far above them and far below a wrong rule.
    if not error <= torch.finfo(reference.dtype).eps ** 0.5:
        raise UnsupportedByEngineError(
            f"engine='{name}' gives gradients that differ from plain autograd's, by {error:.1e} of their norm "
            f"on {len(x)} examples. Use engine='loop', which is plain autograd."
        )
    return engine


def _relative_errors(block: GradientBlock, reference: Tensor) -> tuple[float, float]:
    """Compare J^T I with the reference J, and J J^T: both products are tried."""
    eye = torch.eye(len(reference), dtype=reference.dtype, device=reference.device)
    gram = reference @ reference.T
    error_rows = (block.rmatmat(eye).T - reference).norm() / reference.norm().clamp_min(1e-300)
    error_gram = (block.matmat(reference.T) - gram).norm() / gram.norm().clamp_min(1e-300)
    return float(error_rows), float(error_gram)


def _vmap_serves(model: LogDensityModel, x: Tensor) -> bool:
    try:
        VmapEngine(model)(x)
    except _REFUSALS:
        return False
    return True


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
