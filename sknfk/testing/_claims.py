"""What the checks are made of: claims that raise, copies of models, things left as found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .._torch import evaluation_copy
from ..densities import Density
from ..gradients import LogDensityModel, ParameterSpace

__all__ = [
    "FLOAT64_RTOL",
    "attempt",
    "gaussian",
    "left_as_found",
    "model_and_rows",
    "require",
    "require_close",
]

# Sums in another order are a few eps apart; cancellation and a network's depth take some digits more.
FLOAT64_RTOL = 1e-10

T = TypeVar("T")


def require(holds: bool, message: str) -> None:
    """Raise an AssertionError with this message unless the claim holds, also under ``python -O``."""
    if not holds:
        raise AssertionError(message)


def require_close(found: Any, expected: Tensor, claim: str, rtol: float = FLOAT64_RTOL, at_least: float = 0.0) -> None:
    """Require a tensor of the same kind, and equal but for rounding.

    Parameters
    ----------
    found : object
        What should equal ``expected``.
    expected : Tensor
        The truth, on the right device and of the right dtype.
    claim : str
        "A must be B", without its full stop.
    rtol : float
        Norm of the difference allowed, relative to that of ``expected``.
    at_least : float
        What the difference is relative to if ``expected`` is shorter.
    """
    require(_kind(found) == _kind(expected), f"{claim}. Got {_kind(found)} instead of {_kind(expected)}.")
    scale = max(float(expected.norm()), at_least, torch.finfo(torch.float64).tiny)
    difference = float((found - expected).norm()) / scale
    require(
        difference <= rtol,
        f"{claim}. Got a relative difference of {difference:.1e}; at most {rtol:.0e} is allowed.",
    )


def _kind(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"a tensor of shape {tuple(value.shape)}, {value.dtype}, on {value.device}"


def attempt(claim: str, action: Callable[[], T]) -> T:
    """Return what an action returns; turn what it raises into a claim that does not hold."""
    try:
        return action()
    except Exception as error:
        raise AssertionError(f"{claim}. It raised {type(error).__name__}: {error}") from error


def gaussian(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw on the CPU, for the device and in the dtype of another tensor."""
    return torch.randn(*shape, generator=generator, dtype=like.dtype).to(like.device)


def model_and_rows(model: nn.Module, density: Density, x: Tensor) -> tuple[LogDensityModel, Tensor]:
    """Copy a model and prepare its density as the library does, in float64, and cast the rows."""
    if len(x) < 2:
        raise ValueError(
            f"`x` must have two rows or more, to tell rows from batches. Got {len(x)}; pass a few different rows."
        )
    rows = x.double() if x.is_floating_point() else x
    own = evaluation_copy(model, x.device, torch.float64)
    prepared = density.prepared(own, rows, torch.Generator().manual_seed(0))
    return LogDensityModel(own, prepared, ParameterSpace.of(model)), rows


@contextmanager
def left_as_found(subject: str, module: nn.Module) -> Iterator[None]:
    """Require that a module and torch's global generator are the same afterwards."""
    before, random_state = _state(module), torch.get_rng_state()
    yield
    after = _state(module)
    changed = [name for name in before | after if not _same(before.get(name), after.get(name))]
    require(
        not changed,
        f"`{subject}` must leave the module as it found it. It changed {', '.join(changed[:3])}.",
    )
    require(
        torch.equal(random_state, torch.get_rng_state()),
        f"`{subject}` must leave torch's global random state alone. "
        "It has changed it; draw from a generator of your own.",
    )


def _state(module: nn.Module) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name, parameter in module.named_parameters():
        state[f"requires_grad of '{name}'"] = parameter.requires_grad
        state[f"grad of '{name}'"] = None if parameter.grad is None else parameter.grad.clone()
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        state[f"the values of '{name}'"] = tensor.detach().clone()
    for name, child in module.named_modules():
        state[f"training of '{name or type(child).__name__}'"] = child.training
    return state


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        return torch.equal(before, after)
    return type(before) is type(after) and before == after
