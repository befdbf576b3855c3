"""Layers of a module by their names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from torch import nn

__all__ = ["layers_named"]


def layers_named(module: nn.Module, names: str | Sequence[str], option: str = "layers") -> dict[str, nn.Module]:
    """Return the layers of these names, as ``named_modules`` has them, for an option of the caller.

    Raises
    ------
    ValueError
        If the module has no such layer; it names those of near names.
    """
    own = {name: layer for name, layer in module.named_modules() if name}
    wanted = [names] if isinstance(names, str) else list(names)
    for name in wanted:
        if name not in own:
            near = difflib.get_close_matches(name, own, n=3, cutoff=0.4) or list(own)[:3]
            raise ValueError(
                f"`{option}` must name layers of the module. Got '{name}'; near names are "
                f"{', '.join(repr(other) for other in near)}."
            )
    return {name: own[name] for name in wanted}
