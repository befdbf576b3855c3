"""What every density must do."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .._torch import exact_arithmetic
from ..densities import Density
from ..gradients import LogDensityModel, LoopEngine
from ._claims import attempt, gaussian, left_as_found, model_and_rows, require, require_close

__all__ = ["check_density"]

# Log-densities are compared on the scale of a nat: they may be zero by cancellation.
ONE_NAT = 1.0


def check_density(density: Density, model: nn.Module, x: Tensor) -> None:
    """Check that a density is a deterministic function of each row and the model.

    Its values have shape (B,), are finite, the same twice, and the same for a row
    alone, in its batch and in another order; they follow the parameters of the model
    that it is given and carry a gradient to them; a pickled or deep copy gives them
    too; the module and torch's global random state stay as they were.

    Cost: eight passes over the rows, and the gradient of each.

    Parameters
    ----------
    density : Density
        What is checked.
    model : Module
        A model that the density suits. It is copied, to float64 and eval mode.
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
    >>> from sknfk.testing import check_density
    >>> check_density(Classifier(), torch.nn.Linear(2, 3), torch.eye(2))
    """
    seen, x = model_and_rows(model, density, x)
    density = seen.density
    with exact_arithmetic(x.device), left_as_found("density", seen.model):
        values = _check_rows(density, seen.model, x)  # (B,)
        _check_copies(density, seen.model, x, values)
        _check_substitution(seen, x, values)
        _check_gradient(seen, x)


def _values(density: Density, module: nn.Module, x: Tensor) -> Tensor:
    claim = f"`density` must accept rows of shape {tuple(x.shape)}"
    values = attempt(claim, lambda: density.log_density(module, x))
    got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
    require(
        isinstance(values, Tensor) and values.shape == (len(x),),
        f"`density` must return one value per row, a tensor of shape ({len(x)},). Got {got}.",
    )
    return values.detach().clone()


def _check_rows(density: Density, module: nn.Module, x: Tensor) -> Tensor:
    values = _values(density, module, x)
    bad = int((~torch.isfinite(values)).sum())
    require(bad == 0, f"`density` must be finite. Got {bad} of {len(x)} values that are NaN or infinite.")
    again = _values(density, module, x)
    require_close(again, values, "`density` must give the same values twice", at_least=ONE_NAT)
    alone = torch.cat([_values(density, module, row[None]) for row in x])
    claim = "`density` must give a row the same value alone as in its batch"
    require_close(alone, values, claim, at_least=ONE_NAT)
    flipped = _values(density, module, x.flip(0)).flip(0)
    claim = "`density` must give a row the same value wherever it stands in its batch"
    require_close(flipped, values, claim, at_least=ONE_NAT)
    return values


def _check_copies(density: Density, module: nn.Module, x: Tensor, values: Tensor) -> None:
    name = type(density).__name__
    text = attempt("`density` must have a repr", lambda: repr(density))
    require(name in text, f"The repr of `density` must name its class, {name}. Got {text!r}.")
    ways: dict[str, Callable[[], Density]] = {
        "a pickle round trip": lambda: pickle.loads(pickle.dumps(density)),
        "copy.deepcopy": lambda: copy.deepcopy(density),
    }
    for way, copied in ways.items():
        twin = attempt(f"`density` must survive {way}", copied)
        claim = f"`density` must give the same values after {way}"
        require_close(_values(twin, module, x), values, claim, at_least=ONE_NAT)


def _check_substitution(seen: LogDensityModel, x: Tensor, values: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    others = {name: p + 0.01 * gaussian(p.shape, generator, p) for name, p in seen.values().items()}
    found = seen.at(others, x).detach()
    require(
        not torch.equal(found, values),
        "`density` must follow the parameters of the model it is given. "
        "Other values for all of them changed nothing; call `model`, do not hold one.",
    )
    loaded = copy.deepcopy(seen.model)
    with torch.no_grad():
        for name, parameter in loaded.named_parameters():
            parameter.copy_(others.get(name, parameter))
    expected = _values(seen.density, loaded, x)
    claim = "`density` must give with substituted parameters what it gives of a module loaded with them"
    require_close(found, expected, claim, at_least=ONE_NAT)


def _check_gradient(seen: LogDensityModel, x: Tensor) -> None:
    values = {name: value.clone().requires_grad_() for name, value in seen.values().items()}
    require(
        seen.at(values, x).requires_grad,
        f"The gradient of `density` must reach the model's parameters. It reaches none of {len(values)}; "
        "look for `.detach()` and `torch.no_grad`.",
    )
    found = seen.parameter_space.split(LoopEngine(seen)(x).rows().sum(0))
    bad = [name for name, gradient in found.items() if not torch.isfinite(gradient).all()]
    require(not bad, f"The gradient of `density` must be finite. That of {bad} is NaN or infinite.")
