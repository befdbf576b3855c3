"""Which parameters are differentiated, and their order in a flat vector."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._typing import ParameterDict

__all__ = ["ParameterSelection", "ParameterSpace"]

ParameterSelection = None | str | Sequence[str] | Callable[[str, nn.Parameter], bool]


@dataclass(frozen=True)
class ParameterSpace:
    """Selected parameters, flattened row-major in the model's order.

    A tied parameter stands under its first name; its gradients sum.

    Parameters
    ----------
    names : tuple of str
        Names as in ``model.named_parameters()``.
    shapes : tuple of torch.Size
        Their shapes.
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, model: nn.Module, selection: ParameterSelection = None) -> ParameterSpace:
        """Select parameters of a module.

        Parameters
        ----------
        model : Module
            The module.
        selection : None, str, sequence of str or callable
            None takes all that require a gradient; glob patterns take what they
            match, frozen parameters included; a callable
            ``(name, parameter) -> bool`` takes what it accepts.

        Returns
        -------
        ParameterSpace
            The selected parameters.

        Raises
        ------
        ValueError
            If nothing is selected, or a pattern matches nothing.
        """
        floating = _floating(model)
        chosen = _select(floating, selection)
        return cls(tuple(chosen), tuple(floating[name].shape for name in chosen))

    @classmethod
    def last_layer(cls, model: nn.Module) -> ParameterSpace:
        """Select the parameters of the last layer that has any.

        Parameters
        ----------
        model : Module
            Its layers are taken in their own order, that of ``modules()``.

        Returns
        -------
        ParameterSpace
            The parameters.
        """
        names = {id(p): name for name, p in _floating(model).items()}  # tied ones once
        layers = reversed(list(model.modules()))
        of_layers = ([names[id(p)] for p in layer.parameters(recurse=False) if id(p) in names] for layer in layers)
        return cls.named(model, next(own for own in of_layers if own))

    @classmethod
    def of_layers(cls, model: nn.Module, layers: str | Sequence[str]) -> ParameterSpace:
        """Select all parameters of layers or blocks, frozen ones included.

        Parameters
        ----------
        model : Module
            The module.
        layers : str or sequence of str
            Names as in ``named_modules()``, or glob patterns of them; the empty name is
            the model itself.

        Returns
        -------
        ParameterSpace
            The parameters.

        Raises
        ------
        ValueError
            If a name matches no layer with parameters.
        """
        floating = list(_floating(model))
        known = ["", *(name for name, _ in model.named_modules() if any(p.startswith(f"{name}.") for p in floating))]
        chosen: set[str] = set()
        for pattern in [layers] if isinstance(layers, str) else layers:
            found = fnmatch.filter(known, pattern)
            if not found:
                near = difflib.get_close_matches(pattern, known, n=3, cutoff=0.4) or known[-3:]
                raise ValueError(
                    f"`layers` must name layers of the model that have parameters. '{pattern}' matches none; "
                    f"near names are {_some(near)}."
                )
            chosen |= {p for p in floating for name in found if not name or p.startswith(f"{name}.")}
        if not chosen:
            raise ValueError("`layers` must name at least one layer with parameters. Got none; pass 'auto' or a name.")
        return cls.named(model, [name for name in floating if name in chosen])

    @classmethod
    def named(cls, model: nn.Module, names: Sequence[str]) -> ParameterSpace:
        """Select parameters of a module by their exact names, in this order."""
        own = dict(model.named_parameters())
        return cls(tuple(names), tuple(own[name].shape for name in names))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of entries of each parameter."""
        return tuple(shape.numel() for shape in self.shapes)

    @property
    def n_parameters(self) -> int:
        """Number of entries of all selected parameters, P."""
        return sum(self.sizes)

    def values(self, model: nn.Module) -> ParameterDict:
        """Return the module's own values, detached."""
        own = dict(model.named_parameters())
        return {name: own[name].detach() for name in self.names}

    def flatten(self, gradients: Sequence[Tensor]) -> Tensor:
        """Join per-parameter gradients of shapes (B, *shape) to (B, P)."""
        return torch.cat([g.reshape(len(g), -1) for g in gradients], dim=1)

    def split(self, vector: Tensor) -> ParameterDict:
        """Cut a flat vector (P,) into tensors of the parameters' shapes."""
        parts = vector.split(self.sizes)
        return {name: part.reshape(shape) for name, shape, part in zip(self.names, self.shapes, parts, strict=True)}

    def name_of(self, index: int) -> str:
        """Return the name of the parameter that a flat index falls into."""
        for name, size in zip(self.names, self.sizes, strict=True):
            if index < size:
                return name
            index -= size
        raise IndexError(index)


def _floating(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the floating parameters by name; refuse a model that has none."""
    found = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
    if not found:
        raise ValueError("`model` must have floating parameters. It has none; pass a model with weights.")
    return found


def _select(floating: dict[str, nn.Parameter], selection: ParameterSelection) -> list[str]:
    if selection is None:
        chosen = [name for name, parameter in floating.items() if parameter.requires_grad]
        if not chosen:
            raise ValueError(
                f"`model` must have a parameter that requires a gradient. None of its {len(floating)} does; "
                "pass parameters='*' to select frozen ones by name."
            )
        return chosen
    if callable(selection):
        chosen = [name for name, parameter in floating.items() if selection(name, parameter)]
        if not chosen:
            raise ValueError(
                f"`parameters` must accept at least one parameter. It refused all {len(floating)} of them, "
                f"such as {_some(floating)}."
            )
        return chosen
    patterns = [selection] if isinstance(selection, str) else list(selection)
    matched: set[str] = set()
    for pattern in patterns:
        found = fnmatch.filter(floating, pattern)
        if not found:
            near = difflib.get_close_matches(pattern, floating, n=3, cutoff=0.4) or list(floating)[:3]
            raise ValueError(
                f"`parameters` must match names of the model's parameters. '{pattern}' matches none; "
                f"near names are {_some(near)}."
            )
        matched.update(found)
    if not matched:
        raise ValueError("`parameters` must name at least one pattern. Got an empty list; pass None for all.")
    return [name for name in floating if name in matched]


def _some(names: Sequence[str] | dict) -> str:
    return ", ".join(f"'{name}'" for name in list(names)[:3])
