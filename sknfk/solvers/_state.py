"""States of solvers as named tensors and plain numbers, and back."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from ._krylov import KrylovState
from ._subspace import SubspaceState

__all__ = ["pack_state", "unpack_state"]

KINDS: dict[str, Any] = {"krylov": KrylovState, "subspace": SubspaceState}


def pack_state(state: KrylovState | SubspaceState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take a state apart.

    Parameters
    ----------
    state : KrylovState or SubspaceState
        What a solver hands out after a sweep.

    Returns
    -------
    tensors : dict of str to Tensor
        The state's own, not copies.
    plain : dict of str to object
        The rest, as JSON can hold it.
    """
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {"kind": next(name for name, kind in KINDS.items() if type(state) is kind)}
    for field in fields(state):
        value = getattr(state, field.name)
        if isinstance(value, Tensor):
            tensors[field.name] = value
        elif field.name == "blocks":
            tensors |= {f"blocks.{index}": block for index, block in enumerate(value)}
        else:
            plain[field.name] = list(value) if isinstance(value, tuple) else value
    return tensors, plain


def unpack_state(
    tensors: dict[str, Tensor], plain: dict[str, Any], device: torch.device | str = "cpu"
) -> KrylovState | SubspaceState:
    """Put a state together again.

    Parameters
    ----------
    tensors, plain : dict
        As :func:`pack_state` returns them.
    device : device
        Where its tensors go.

    Returns
    -------
    KrylovState or SubspaceState
        The state.
    """
    kind = KINDS[plain["kind"]]
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name == "blocks":
            n_blocks = sum(name.startswith("blocks.") for name in tensors)
            values["blocks"] = tuple(tensors[f"blocks.{index}"].to(device) for index in range(n_blocks))
        elif field.name in tensors:
            values[field.name] = tensors[field.name].to(device)
        else:
            value = plain[field.name]
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
