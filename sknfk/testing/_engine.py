"""What every engine must do."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .._torch import exact_arithmetic
from ..densities import Density
from ..gradients import Engine, GradientBlock, LogDensityModel
from ._claims import attempt, gaussian, left_as_found, model_and_rows, require_close

__all__ = ["check_engine"]

N_PROBES = 3


def check_engine(
    make_engine: Callable[[LogDensityModel], Engine], model: nn.Module, density: Density, x: Tensor
) -> None:
    """Check that an engine gives the gradients of plain autograd.

    Every answer of its block equals that of gradients taken one example and one
    backward pass at a time, to 1e-10 of their norm; so do those of the batch cut in
    two; both products are each other's adjoint for a single column too; the module
    and torch's global random state stay as they were.

    Cost: a backward pass for each row, and three visits by the engine.

    Parameters
    ----------
    make_engine : callable
        From a `LogDensityModel` to the engine, such as an engine's class.
    model : Module
        A model that the engine serves. It is copied, to float64 and eval mode.
    density : Density
        What the model's output means.
    x : Tensor of shape (B, *input)
        A few different rows, at least two.

    Raises
    ------
    AssertionError
        If one of these does not hold.

    Examples
    --------
    >>> import torch
    >>> from sknfk.densities import Classifier
    >>> from sknfk.gradients import VmapEngine
    >>> from sknfk.testing import check_engine
    >>> check_engine(VmapEngine, torch.nn.Linear(2, 3), Classifier(), torch.eye(2))
    """
    seen, x = model_and_rows(model, density, x)
    with exact_arithmetic(x.device), left_as_found("engine", seen.model):
        J = _gradients_by_backward(seen, x)  # (B, P)
        claim = "`make_engine` must make an engine of a LogDensityModel"
        engine = attempt(claim, lambda: make_engine(seen))
        _check_answers(engine, x, J)
        _check_adjoint(attempt("`engine` must serve the rows", lambda: engine(x)), J)


def _gradients_by_backward(seen: LogDensityModel, x: Tensor) -> Tensor:
    module = copy.deepcopy(seen.model)
    own = dict(module.named_parameters())
    parameters = [own[name].requires_grad_() for name in seen.parameter_space.names]
    rows = []
    for row in x:
        module.zero_grad()
        seen.density.log_density(module, row[None]).sum().backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        rows.append(torch.cat([g.flatten() for g in gradients]))
    return torch.stack(rows)  # (B, P)


def _check_answers(engine: Engine, x: Tensor, J: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    W = gaussian((J.shape[1], N_PROBES), generator, J)  # (P, L)
    Y = gaussian((J.shape[0], N_PROBES), generator, J)  # (B, L)
    expected = {
        "rows": J,
        "sum": J.sum(0),
        "squared_sum": J.square().sum(0),
        "matmat": J @ W,
        "rmatmat": J.T @ Y,
        "rmatmat, added to a sum": J.T @ Y,
    }
    whole = _answers(engine, x, W, Y)
    for name, truth in expected.items():
        claim = f"`{name}` of the engine's block must equal that of the gradients by plain autograd"
        require_close(whole[name], truth, claim)
    first, rest = _answers(engine, x[:1], W, Y[:1]), _answers(engine, x[1:], W, Y[1:])
    for name, truth in expected.items():
        of_rows = name in ("rows", "matmat")
        joined = torch.cat([first[name], rest[name]]) if of_rows else first[name] + rest[name]
        claim = f"`{name}` of the engine's blocks must not depend on how the rows are cut into batches"
        require_close(joined, truth, claim)


def _answers(engine: Engine, x: Tensor, W: Tensor, Y: Tensor) -> dict[str, Tensor]:
    def ask() -> dict[str, Tensor]:
        block: GradientBlock = engine(x)
        return {
            "rows": block.rows(),
            "sum": block.sum(),
            "squared_sum": block.squared_sum(),
            "matmat": block.matmat(W),
            "rmatmat": block.rmatmat(Y),
            "rmatmat, added to a sum": _added_in_place(block, Y, torch.ones_like(W)) - 1,
        }

    return attempt(f"`engine` must answer for rows of shape {tuple(x.shape)}", ask)


def _added_in_place(block: GradientBlock, Y: Tensor, total: Tensor) -> Tensor:
    block.rmatmat(Y, add_to=total)
    return total


def _check_adjoint(block: GradientBlock, J: Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    w, y = gaussian((J.shape[1], 1), generator, J), gaussian((J.shape[0], 1), generator, J)
    left, right = (y * block.matmat(w)).sum(), (block.rmatmat(y) * w).sum()
    claim = "`matmat` and `rmatmat` of the engine's block must be each other's adjoint for one column"
    require_close(left, right, claim, at_least=float(y.norm() * (J @ w).norm()))
