"""What a file says of a density as ``fit`` has prepared it, and the density put together again."""

from __future__ import annotations

import os
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import densities
from .._portable import fingerprint
from .._torch import evaluation_copy
from ..densities import Density, select_density

__all__ = ["densities_content", "restored_densities"]

_PLAIN = (str, int, float, bool, type(None), np.integer, np.floating, np.bool_)


def densities_content(given: Any, prepared: Density) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what a file says of the option ``density`` and of what became of it, and their tensors.

    Raises
    ------
    ValueError
        If neither the file nor the option could give the prepared density back.
    """
    of_given, tensors = ({"name": given}, {}) if isinstance(given, str) else _content("density", given, given)
    of_prepared, drawn = _content("density_", prepared, _chosen(given))
    return {"density": of_given, "density_": of_prepared}, tensors | drawn


def restored_densities(
    path: str | os.PathLike, content: dict[str, Any], tensors: dict[str, Tensor], density: Any, device: torch.device
) -> tuple[Any, Density]:
    """Return the option ``density`` and the prepared density, rebuilt or from what is given."""
    of_given = content["density"]
    given = density
    if given is None and "name" in of_given:
        given = of_given["name"]
    elif given is None and of_given["is_whole"]:
        given = _rebuilt("density", of_given, tensors)
    if given is None:
        raise ValueError(
            f"`density` must be given to load '{path}', which was fitted with {content['density_']['repr']}: networks "
            f"and functions are not in the file. Got {density!r}; pass the same as to the fit."
        )
    if content["density_"]["is_whole"]:
        return given, _rebuilt("density_", content["density_"], tensors)
    return given, _put_back(path, "density_", content["density_"], tensors, _chosen(given), device)


def _chosen(given: Any) -> Density | None:
    """Return the density that was given, before a fit prepares it; "auto" waits for a model."""
    return None if given == "auto" else select_density(given)[0]


def _content(place: str, density: Any, given: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what a file says of a density, of which it leaves out what ``given`` holds too."""
    kind = type(density).__name__
    content: dict[str, Any] = {"class": kind, "repr": repr(density), "settings": {}, "densities": {}, "networks": {}}
    tensors: dict[str, Tensor] = {}
    left_out = []
    for name, value in vars(density).items() if isinstance(density, Density) else ():
        own = getattr(given, name, None)
        if isinstance(value, Tensor):
            tensors[f"{place}.{name}"] = value
        elif _is_plain(value):
            content["settings"][name] = value
        elif isinstance(value, Density):
            content["densities"][name], drawn = _content(f"{place}.{name}", value, own)
            tensors |= drawn
        elif value is not own and not _is_copy(value, own):
            raise _lost(f"a {type(value).__name__} as `{name}` of {kind}")
        else:
            left_out.append(name)
            if isinstance(value, nn.Module):
                content["networks"][name] = {"fingerprint": fingerprint(value), "dtype": _dtype_if_copied(value, own)}
    parts_are_whole = all(part["is_whole"] for part in content["densities"].values())
    content["is_whole"] = getattr(densities, kind, None) is type(density) and parts_are_whole and not left_out
    if not content["is_whole"] and type(given) is not type(density):
        raise _lost(f"a {kind} in place of a {type(given).__name__}")
    return content, tensors


def _is_plain(value: Any) -> bool:
    parts = value if type(value) is tuple else (value,)
    return all(isinstance(part, _PLAIN) and not isinstance(part, Enum) for part in parts)


def _dtype_if_copied(value: nn.Module, own: Any) -> str | None:
    """Return the dtype of the copy that a fit has made of a network, or None where it took the network itself."""
    if value is own:
        return None
    dtype = next((p.dtype for p in value.parameters()), torch.get_default_dtype())
    return str(dtype).removeprefix("torch.")


def _copied(network: nn.Module, device: torch.device, dtype: str | None) -> nn.Module:
    return network if dtype is None else evaluation_copy(network, device, getattr(torch, dtype))


def _is_copy(value: Any, own: Any) -> bool:
    if not (isinstance(value, nn.Module) and isinstance(own, nn.Module)):
        return False
    copied = _copied(own, torch.device("cpu"), _dtype_if_copied(value, own))
    return fingerprint(copied) == fingerprint(value)


def _lost(found: str) -> ValueError:
    return ValueError(
        "`save` must be able to give back what the density has found in `fit`: tensors, numbers, strings, tuples of "
        f"them and densities. Got {found}; keep it as one of these, or write the transformer with `joblib.dump`."
    )


def _rebuilt(place: str, content: dict[str, Any], tensors: dict[str, Tensor]) -> Density:
    """Return a density of the library, of which the file holds everything."""
    kind = getattr(densities, content["class"], None)
    if not (isinstance(kind, type) and issubclass(kind, Density)):  # no other code is reached from a file
        raise ValueError(
            f"The density of a file must be one of `sknfk.densities`. Got {content['class']!r}; `save` wrote no such."
        )
    parts = {name: _rebuilt(f"{place}.{name}", part, tensors) for name, part in content["densities"].items()}
    return kind(**_held(place, content, tensors), **parts)


def _put_back(
    path: str | os.PathLike,
    place: str,
    content: dict[str, Any],
    tensors: dict[str, Tensor],
    given: Any,
    device: torch.device,
) -> Density:
    """Return the given density with what the file holds of it."""
    if content["is_whole"]:
        return _rebuilt(place, content, tensors)
    if type(given).__name__ != content["class"]:
        raise ValueError(
            f"`density` must be that of '{path}', which was fitted with {content['repr']}. "
            f"Got {given!r}; pass the same as to the fit."
        )
    state = vars(given) | _held(place, content, tensors)
    for name, part in content["densities"].items():
        state[name] = _put_back(path, f"{place}.{name}", part, tensors, state.get(name), device)
    for name, network in content["networks"].items():
        own = state.get(name)
        state[name] = _copied(own, device, network["dtype"]) if isinstance(own, nn.Module) else None
        if state[name] is None or fingerprint(state[name]) != network["fingerprint"]:
            raise ValueError(
                f"`density` must have the networks that '{path}' was saved with. Got another `{name}` or "
                "none; pass the same as to the fit."
            )
    restored = object.__new__(type(given))
    vars(restored).update(state)  # not by its constructor, which other classes than dataclasses write as they like
    return restored


def _held(place: str, content: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return the settings and tensors of a density that the file holds."""
    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in content["settings"].items()}
    within = {key.removeprefix(f"{place}."): tensor for key, tensor in tensors.items() if key.startswith(f"{place}.")}
    return settings | {name: tensor for name, tensor in within.items() if "." not in name}
