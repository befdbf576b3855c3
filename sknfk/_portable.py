"""Modules that pickle and hash by content: numpy weights beside an empty skeleton.

A pickled torch tensor carries its storage's address and its device, so that two
equal modules hash differently (joblib issue 1282) and a CUDA pickle does not load
without CUDA. Here every tensor is lifted out of the module, wherever it sits.
"""

from __future__ import annotations

import copy
import hashlib
import io
import pickle
import re
from typing import Any

import numpy as np
import torch
from joblib import hashing
from torch import Tensor, nn

__all__ = ["PortableModule", "fingerprint", "without_addresses"]

_DTYPES_WITHOUT_NUMPY = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2)


class PortableModule:
    """A module as a meta-device skeleton and numpy arrays; ``restore`` rebuilds it.

    Training flags are not part of it: the skeleton is in eval mode.
    """

    def __init__(self, module: nn.Module) -> None:
        tensors = _tensors_of(module)
        placeholders = [_placeholder(tensor) for tensor in tensors]
        # deepcopy takes what its memo holds, so no weight is copied and ties stay ties.
        memo: dict[int, Any] = {id(t): p for t, p in zip(tensors, placeholders, strict=True)}
        self.skeleton = copy.deepcopy(module, memo).eval()
        self.placeholders = placeholders
        self.arrays = [_to_array(tensor) for tensor in tensors]

    def restore(self) -> nn.Module:
        """Return a new module on the CPU, in eval mode."""
        memo: dict[int, Any] = {id(p): _from_array(a, p) for p, a in zip(self.placeholders, self.arrays, strict=True)}
        return copy.deepcopy(self.skeleton, memo)


def fingerprint(module: nn.Module) -> str:
    """Return a digest of a module's structure, parameters and buffers; devices and training flags count for nothing.

    Of a layer's settings those count that it prints of itself, such as a slope or a stride.

    Cost: one copy of the largest tensor to the host.
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        # What containers of parameters print is the device, too.
        settings = "" if isinstance(part, nn.ParameterList | nn.ParameterDict) else without_addresses(part.extra_repr())
        digest.update(f"{name}:{type(part).__qualname__}({settings});".encode())
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    for name, tensor in named:
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(_bytes_of(tensor).data)
    return digest.hexdigest()


def without_addresses(text: str) -> str:
    """Return a ``repr`` less the places of objects in memory."""
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", text)


def _bytes_of(tensor: Tensor) -> np.ndarray:
    values = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return values.reshape(-1).view(torch.uint8).numpy()


class _TensorCollector(pickle.Pickler):
    """Pickles everything but tensors, which it collects in the order of first sight."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), protocol=pickle.HIGHEST_PROTOCOL)
        self.tensors: dict[int, Tensor] = {}

    def persistent_id(self, obj: Any) -> int | None:
        if isinstance(obj, Tensor):
            self.tensors.setdefault(id(obj), obj)
            return id(obj)
        return None


def _tensors_of(module: nn.Module) -> list[Tensor]:
    collector = _TensorCollector()
    try:
        collector.dump(module)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise pickle.PicklingError(
            "`model` must be made of classes and functions defined at module level to be pickled or cached. "
            f"{type(module).__name__} raised: {error}. Move them out of functions, and give lambdas a name with def."
        ) from error
    return list(collector.tensors.values())


def _placeholder(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


def _to_array(tensor: Tensor) -> np.ndarray:
    values = tensor.detach().cpu().resolve_conj().resolve_neg()
    if values.dtype in _DTYPES_WITHOUT_NUMPY:  # as bytes; the placeholder remembers dtype and shape
        values = values.contiguous().reshape(-1).view(torch.uint8)
    return values.numpy()


def _from_array(array: np.ndarray, placeholder: Tensor) -> Tensor:
    # A copy: arrays may be read-only memory maps, and modules may share their storage.
    values = torch.from_numpy(np.array(array))
    if placeholder.dtype in _DTYPES_WITHOUT_NUMPY:
        values = values.view(placeholder.dtype).reshape(placeholder.shape)
    if isinstance(placeholder, nn.Parameter):
        return nn.Parameter(values, requires_grad=placeholder.requires_grad)
    return values


def _hash_tensor(hasher: Any, tensor: Tensor) -> None:
    """Feed a tensor's content to joblib's hasher, as it does for arrays."""
    if tensor.layout != torch.strided or tensor.is_quantized:  # no array stands for them
        hasher.save_reduce(*tensor.__reduce_ex__(2), obj=tensor)
        return
    content = None if tensor.is_meta else _to_array(tensor)
    hasher.save((type(tensor).__name__, str(tensor.dtype), tuple(tensor.shape), tensor.requires_grad, content))
    hasher.memoize(tensor)


# joblib hashes a tensor by its address. With a rule for them, modules hash by content
# wherever they sit: in a Pipeline's memory, in get_params, in another estimator.
hashing.Hasher.dispatch[Tensor] = _hash_tensor
hashing.Hasher.dispatch[nn.Parameter] = _hash_tensor
