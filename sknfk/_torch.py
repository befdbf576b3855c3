"""Devices, arithmetic and random numbers of torch, left as they were found."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = [
    "compute_dtype",
    "evaluation_copy",
    "exact_arithmetic",
    "first_nonfinite",
    "resolve_device",
    "seeded_torch",
    "takes_tokens",
    "validate_module",
    "with_autograd",
]

Params = ParamSpec("Params")
Result = TypeVar("Result")


def resolve_device(device: str, module: nn.Module | None = None) -> torch.device:
    """Return the device to compute on.

    ``"auto"`` is the module's own device if that is not the CPU, else CUDA where
    there is one, else the CPU.
    """
    if device != "auto":
        return _available(device)
    if module is not None:
        for tensor in module.parameters():
            if tensor.device.type != "cpu":
                return tensor.device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _available(device: str) -> torch.device:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"`device` must be one that torch can use here. Got '{device}', and torch says: "
            f"{str(error).splitlines()[0]}. Pass device='auto' to take what there is."
        ) from error
    return torch.device(device)


def compute_dtype(dtype: str, module: nn.Module) -> torch.dtype:
    """Return the floating dtype to compute in; ``"auto"`` is the module's own.

    Half precision is served by a float32 copy: a whitened gradient in half
    precision would lose the digits that its low-rank factors are made of.
    """
    if dtype != "auto":
        return {"float32": torch.float32, "float64": torch.float64}[dtype]
    if any(p.dtype == torch.float64 for p in module.parameters()):
        return torch.float64
    return torch.float32


def validate_module(module: nn.Module) -> None:
    """Refuse in words a module whose gradients cannot be taken as it stands."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise TypeError(
            f"`model` must be a plain module. Got {type(module).__name__}; pass the module inside it, `model.module`."
        )
    devices = set()
    for name, parameter in module.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ValueError(
                f"`model` must have all its parameters. '{name}' is lazy and has no shape yet; "
                "run the model once on a batch before passing it."
            )
        devices.add(parameter.device)
    if any(device.type == "meta" for device in devices):
        raise ValueError(
            "`model` must hold its weights. Some of its parameters are on the 'meta' device; load the weights first."
        )
    if len(devices) > 1:
        names = ", ".join(sorted(str(device) for device in devices))
        raise ValueError(f"`model` must be on one device. Got {names}; move it with `model.to(device)`.")
    for name, child in module.named_modules():
        if "quantized" in type(child).__module__:
            raise TypeError(
                f"`model` must have floating parameters. Layer '{name}' ({type(child).__name__}) is quantised and "
                "has no gradient; pass the model as it was before quantisation."
            )


def evaluation_copy(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Copy a module for reading: eval mode, no gradients required, on ``device``."""
    try:
        own = copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"`model` must be a module that `copy.deepcopy` can copy. {type(module).__name__} raised: {error}"
        ) from error
    own.eval()
    own.requires_grad_(False)
    return own.to(device=device, dtype=dtype)


@contextlib.contextmanager
def _autograd() -> Iterator[None]:
    with torch.inference_mode(False), torch.enable_grad():
        yield


def with_autograd(function: Callable[Params, Result]) -> Callable[Params, Result]:
    """Let a function make and train modules in whatever gradient mode the caller is."""

    @functools.wraps(function)
    def wrapper(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        with _autograd():
            return function(*args, **kwargs)

    return wrapper


# Each of them may hold "tf32" or "bf16", set by either of torch's two interfaces.
_PRECISION_SWITCHES: tuple[Any, ...] = tuple(
    getattr(backend, operation)
    for backend, operations in (
        (torch.backends.cuda, ("matmul",)),
        (torch.backends.cudnn, ("conv", "rnn")),
        (torch.backends.mkldnn, ("matmul", "conv", "rnn")),
    )
    for operation in operations
)


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    before = [switch.fp32_precision for switch in _PRECISION_SWITCHES]
    try:
        for switch in _PRECISION_SWITCHES:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, precision in zip(_PRECISION_SWITCHES, before, strict=True):
            switch.fp32_precision = precision


@contextlib.contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Compute in full precision, with gradients on, and restore every setting.

    TF32 is off in products and convolutions; attention takes its mathematical
    form, the only one that has forward-mode derivatives; autocast is off; the
    random states of torch are put back.
    """
    devices = [device] if device.type == "cuda" else []
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=devices, device_type="cuda"))
        stack.enter_context(_autograd())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_full_precision())
        yield


@contextlib.contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """Run code that draws from torch's global generator on a seed of its own.

    Constructors of modules and training loops know no other generator; its state
    is put back afterwards.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices, device_type="cuda"):
        torch.manual_seed(seed)
        yield


def first_nonfinite(values: Tensor) -> int | None:
    """Return the index of the first entry that is NaN or infinite, if there is one."""
    bad = ~torch.isfinite(values)
    return int(bad.nonzero()[0, 0]) if bool(bad.any()) else None


def takes_tokens(module: nn.Module) -> bool:
    """Whether the first layer with parameters is an embedding."""
    for child in module.modules():
        if next(child.parameters(recurse=False), None) is not None:
            return isinstance(child, nn.Embedding | nn.EmbeddingBag)
    return False
