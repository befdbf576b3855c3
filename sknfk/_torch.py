"""Devices, arithmetic and random numbers of torch, left as they were found."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ._threads import GENERATOR, random_states_kept

__all__ = [
    "available_memory",
    "compute_dtype",
    "evaluation_copy",
    "exact_arithmetic",
    "first_nonfinite",
    "is_out_of_memory",
    "plain_module",
    "release_memory",
    "resolve_device",
    "seeded_torch",
    "total_memory",
    "validate_module",
    "warn_of_a_shared_gpu",
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


@functools.cache
def warn_of_a_shared_gpu(device_type: str) -> None:
    """Warn, once in a process, that others like it use the same GPU."""
    if device_type == "cuda" and multiprocessing.parent_process() is not None:
        warnings.warn(
            "Several processes fit on one GPU: each holds its own copy of the model and of what a fit works with. "
            "Use n_jobs=1 with a GPU, or device='cpu'.",
            UserWarning,
            stacklevel=4,
        )


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


_SHARDING = ("FullyShardedDataParallel", "FSDPModule")


def validate_module(module: nn.Module) -> None:
    """Refuse in words a module whose gradients cannot be taken as it stands."""
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise TypeError(
            f"`model` must be a plain module. Got {type(module).__name__}; pass the module inside it, `model.module`."
        )
    devices = set()
    for name, parameter in module.named_parameters():
        if type(parameter).__name__ in ("DTensor", "ShardedTensor") or type(module).__name__ in _SHARDING:
            raise TypeError(
                f"`model` must be whole in one process. '{name}' is sharded over several; gather it first, such as "
                "with `torch.distributed.checkpoint.state_dict.get_model_state_dict(full_state_dict=True)`."
            )
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
        if isinstance(child, torch.jit.ScriptModule):
            part = f"Layer '{name}'" if name else "It"
            raise TypeError(
                f"`model` must be a module of Python code. {part} is compiled by `torch.jit`; pass it as it was before."
            )
        if "quantized" in type(child).__module__:
            raise TypeError(
                f"`model` must have floating parameters. Layer '{name}' ({type(child).__name__}) is quantised and "
                "has no gradient; pass the model as it was before quantisation."
            )


def plain_module(module: nn.Module) -> nn.Module:
    """Return a module without the wrappers of ``torch.compile``: what is compiled hides its layers."""
    module = getattr(module, "_orig_mod", module)
    if not any(hasattr(child, "_orig_mod") for child in module.modules()):
        return module
    module = copy.deepcopy(module)  # the caller's stays compiled
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "_orig_mod"):
                setattr(parent, name, child._orig_mod)
    return module


def evaluation_copy(module: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Copy a module for reading: eval mode, no gradients required, on ``device``."""
    try:
        own = copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"`model` must be a module that `copy.deepcopy` can copy. {type(module).__name__} raised: "
            f"{str(error).splitlines()[0]}. Detach the tensors that it keeps beside its parameters."
        ) from error
    own.eval()
    own.requires_grad_(False)
    _take_plain_attention(own)
    return own.to(device=device, dtype=dtype)


def _take_plain_attention(own: nn.Module) -> None:
    """Let models of Hugging Face compute attention in its mathematical form.

    Their fused form looks at the values of a mask to skip it, where neither a trace of
    a few rows nor ``vmap`` can follow.
    """
    for part in own.modules():
        choose = getattr(part, "set_attn_implementation", None)
        if callable(choose):
            with contextlib.suppress(ValueError):  # a model that has no other form
                choose("eager")


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


_ONEDNN_PRODUCTS: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # set when torch is imported


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    before = [switch.fp32_precision for switch in _PRECISION_SWITCHES]
    try:
        for switch in _PRECISION_SWITCHES:
            switch.fp32_precision = "ieee"
        if device.type == "cpu" and _onednn_keeps_float32():
            _ONEDNN_PRODUCTS.fp32_precision = "bf16"
        yield
    finally:
        for switch, precision in zip(_PRECISION_SWITCHES, before, strict=True):
            switch.fp32_precision = precision


@functools.cache
def _onednn_keeps_float32() -> bool:
    """Whether oneDNN multiplies float32 matrices in float32 where it may round to bfloat16.

    Allowed to round, torch hands products to oneDNN instead of MKL. Processors without
    bfloat16 tiles gain nothing by rounding, and oneDNN does not round there: on AMD's it
    is exact and twice as fast as MKL. So it is tried, on shapes as the library's own.
    """
    if not torch.backends.mkldnn.is_available() or _has_bfloat16_tiles():
        return False
    generator = torch.Generator().manual_seed(0)
    for n_rows, n_inner, n_columns in ((64, 4096, 138), (138, 2048, 138), (8192, 32, 42)):
        a = torch.randn(n_rows, n_inner, generator=generator)
        b = torch.randn(n_inner, n_columns, generator=generator)
        truth = a.double() @ b.double()
        with torch.autocast("cpu", enabled=False):
            before = _ONEDNN_PRODUCTS.fp32_precision
            try:
                _ONEDNN_PRODUCTS.fp32_precision = "bf16"
                found = torch.zeros_like(truth, dtype=torch.float32).addmm_(a, b)
            finally:
                _ONEDNN_PRODUCTS.fp32_precision = before
        # bfloat16 would be wrong by 2e-3, TF32 by 5e-4; float32 is by 6e-7.
        if not float((found - truth).norm()) <= 1e-5 * float(truth.norm()):
            return False
    return True


def _has_bfloat16_tiles() -> bool:
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)  # private, but the only one to ask
    return True if supported is None else bool(supported())


@contextlib.contextmanager
def _plain_encoders() -> Iterator[None]:
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _SettingsOfTheProcess:
    """Settings that all threads share: the first to compute changes them, the last puts them back.

    If each thread put back what it had found, one that entered while another computed
    would put back the changed ones.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_users = 0
        self._restoring = contextlib.ExitStack()

    @contextlib.contextmanager
    def held(self, device: torch.device) -> Iterator[None]:
        """Hold the settings for products on a device."""
        with self._lock:
            if self._n_users == 0:
                self._restoring.enter_context(sdpa_kernel(SDPBackend.MATH))
                self._restoring.enter_context(_full_precision(device))
                self._restoring.enter_context(_plain_encoders())
            self._n_users += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_users -= 1
                if self._n_users == 0:
                    self._restoring.close()


_SETTINGS_OF_THE_PROCESS = _SettingsOfTheProcess()


@contextlib.contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Compute in full precision, with gradients on, and restore every setting.

    TF32 is off in products and convolutions; attention takes its mathematical
    form, and encoders their plain path, the only ones that have forward-mode
    derivatives; autocast is off; the random states of torch are put back.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(random_states_kept(device))
        stack.enter_context(_autograd())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(_SETTINGS_OF_THE_PROCESS.held(device))
        yield


@contextlib.contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """Run code that draws from torch's global generator on a seed of its own.

    Constructors of modules and training loops know no other generator; its state
    is put back afterwards. Threads do so one after the other.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with GENERATOR.held(), torch.random.fork_rng(devices=devices, device_type="cuda"):
        torch.manual_seed(seed)
        yield


def first_nonfinite(values: Tensor) -> int | None:
    """Return the index of the first entry that is NaN or infinite, if there is one."""
    bad = ~torch.isfinite(values)
    return int(bad.nonzero()[0, 0]) if bool(bad.any()) else None


# What torch raises where the CPU has no memory left is a RuntimeError with one of these phrases.
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "failed to allocate")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory gave out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _OUT_OF_MEMORY)


def release_memory(device: torch.device) -> None:
    """Give back what failed work has left behind."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


# The control group of a container, in the two versions of Linux's interface.
_GROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_NO_LIMIT = 2**62
_ASSUMED_MEMORY = 8 * 2**30  # where the system does not tell


def total_memory(device: torch.device) -> int:
    """Return the memory of a device in bytes; for the CPU, a container's limit counts."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return min(_meminfo("MemTotal"), _first_number(_GROUP_LIMITS, _NO_LIMIT))


def available_memory(device: torch.device) -> int:
    """Return how much of a device's memory is free, in bytes."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + kept)
    return min(_meminfo("MemAvailable"), _first_number(_GROUP_LIMITS, _NO_LIMIT))


def _meminfo(field: str) -> int:
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")]
    if found:
        return found[0]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _ASSUMED_MEMORY


def _first_number(files: tuple[str, ...], otherwise: int) -> int:
    for name in files:
        path = Path(name)
        if path.exists() and (text := path.read_text().strip()).isdigit():
            return int(text)
    return otherwise
