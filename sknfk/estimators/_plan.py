"""What a fit will do and what it needs, decided before it starts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .._torch import available_memory, total_memory
from ..fisher import cache_bytes, gram_bytes
from ..gradients import LogDensityModel, forward_flops
from ..solvers import select_solver, solver_bytes

__all__ = [
    "NOT_MEASURED",
    "ModelCost",
    "Plan",
    "check_gradient_cache",
    "measure_model",
    "plan_batch_size",
    "plan_fit",
    "resolve_max_memory",
    "shrink_batches",
]

MAX_BATCH_SIZE = 128
MAX_BATCH_BYTES = 2**28

# Forward operations for each parameter, over 2, from which reading a bfloat16 row beats forming it
# again: R / (3 BW) for the arithmetic rate R and bandwidth BW of a CPU's memory, of a GPU's memory and
# of the host's memory seen from a GPU (10 GB/s at 1e11, 4.3 TB/s and 50 GB/s at 4e13).
READING_PAYS = {("cpu", "device"): 3.3, ("cuda", "device"): 3.0, ("cuda", "ram"): 267.0}

# Rounding gradients to bfloat16 was measured to lose 4e-8 (LeNet-5) to 3e-7 (ResNet-20) of the leading energy,
# products of them 5e-6.
CACHE_FROM_TOL = 1e-6
BFLOAT16_PRODUCTS_FROM_TOL = 1e-2


@dataclass(frozen=True)
class ModelCost:
    """What one example costs a model.

    Parameters
    ----------
    forward_flops : int
        Operations of a forward pass in products and convolutions.
    activation_bytes : int
        Memory that its backward pass waits for.
    """

    forward_flops: int
    activation_bytes: int


NOT_MEASURED = ModelCost(0, 0)


@dataclass(frozen=True)
class Plan:
    """The decisions of a fit, and its memory in bytes.

    Parameters
    ----------
    solver, solver_reason : str
        The solver, and one sentence on the choice.
    batch_size : int
        Rows whose gradients are held at once.
    cache : str or None
        "device", "ram", a folder, or None.
    cache_reason : str
        One sentence on the choice.
    products : dtype
        Of the products.
    memory : dict of str to int
        Bytes for each purpose.
    max_memory : int
        The bound on their sum.
    """

    solver: str
    solver_reason: str
    batch_size: int
    cache: str | None
    cache_reason: str
    products: torch.dtype
    memory: dict[str, int]
    max_memory: int

    @property
    def total_bytes(self) -> int:
        """Memory for everything but X and the model."""
        return sum(self.memory.values())


def check_gradient_cache(gradient_cache: str | None, engine: str) -> None:
    """Refuse in words a cache that has no place, or nothing to keep.

    Raises
    ------
    ValueError
        If ``gradient_cache`` names a folder that cannot be written to, or the engine
        forms no gradients.
    """
    if gradient_cache in ("auto", None):
        return
    if engine == "jvp":
        raise ValueError(
            "`gradient_cache` must be 'auto' or None with engine='jvp', which forms no gradients that could be kept. "
            f"Got '{gradient_cache}'; leave it out, or choose another `engine`."
        )
    if gradient_cache not in ("device", "ram") and not _can_write_to(gradient_cache):
        raise ValueError(
            "`gradient_cache` must be 'auto', 'device', 'ram', None or a folder that exists and can be written to. "
            f"Got '{gradient_cache}'; create the folder or name another."
        )


def _can_write_to(folder: str) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


def measure_model(model: LogDensityModel, x: Tensor) -> ModelCost:
    """Count what a few rows cost. Cost: two forward passes over them."""
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    values = {name: value.detach().requires_grad_() for name, value in model.values().items()}
    own = {value.untyped_storage().data_ptr() for value in values.values()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept_alive = model.at(values, x)
    activations = sum(size for pointer, size in saved.items() if pointer not in own)
    del kept_alive
    return ModelCost(forward_flops(model, x), activations // len(x))


def resolve_max_memory(max_memory: int | None, device: torch.device) -> int:
    """Return the bound in bytes: as given, or half of what the device has in total."""
    return total_memory(device) // 2 if max_memory is None else int(max_memory)


def plan_batch_size(cost: ModelCost, n_parameters: int, itemsize: int, max_memory: int) -> int:
    """Return the largest power of two, up to 128, whose gradients and activations fit their share.

    Beyond 128 examples the products gain little more from the shared probes, and blocks
    outgrow the caches. Signals need as much as the activations they pass through.
    """
    gradients = n_parameters * itemsize
    row_bytes = gradients + 2 * cost.activation_bytes
    fitting = min(MAX_BATCH_BYTES // max(1, gradients), max_memory // (4 * max(1, row_bytes)), MAX_BATCH_SIZE)
    return 2 ** (max(1, fitting).bit_length() - 1)


def shrink_batches(options: Any, setup: Any, n_rows: int, rank: Any) -> Any:
    """Return the setup with an automatic batch size halved until the fit has its memory, or it is 1."""
    while options.batch_size == "auto" and setup.batch_size > 1:
        try:
            plan_fit(options, setup, n_rows, rank)
        except ValueError:
            setup = replace(setup, batch_size=setup.batch_size // 2)
        else:
            break
    return setup


def plan_fit(options: Any, setup: Any, n_rows: int, rank: Any) -> Plan:
    """Decide solver and cache, and refuse what cannot fit.

    A function of the options, the model's cost, the shape and the device's total
    memory: what is free at the moment changes no decision.

    Raises
    ------
    ValueError
        If the fit needs more than ``max_memory``.
    MemoryError
        If it needs more than the device has free.
    """
    P, itemsize, limit = setup.parameters.n_parameters, torch.finfo(setup.dtype).bits // 8, setup.max_memory
    memory = {
        "gradients of a batch": 2 * setup.batch_size * P * itemsize,
        "activations of a batch": 2 * setup.batch_size * setup.cost.activation_bytes,
        "statistics": 8 * P * 8,
    }

    def bytes_of(solver: str) -> int:
        width = min((rank.block_width if solver == "krylov" else rank.most) + options.n_oversamples, P)
        formed = gram_bytes(n_rows, P, setup.batch_size, itemsize) if solver == "exact" else 0
        return formed + solver_bytes(solver, (n_rows, P), width, rank.most, options.max_sweeps, itemsize)

    solver, reason = options.solver, "It was given by name."
    if solver == "auto":
        solver, reason = _fitting_solver((n_rows, P), rank.most, options, bytes_of, limit - sum(memory.values()))
    memory["solver"] = bytes_of(solver)
    _refuse_above(limit, memory, setup.device)
    cache, cache_reason = _plan_cache(options, setup, n_rows, solver, limit - sum(memory.values()))
    if cache in ("device", "ram"):
        memory["gradient cache"] = cache_bytes(n_rows, P)
        _refuse_above(limit, memory, setup.device)
    rounded = cache is not None and options.tol >= BFLOAT16_PRODUCTS_FROM_TOL and setup.dtype == torch.float32
    products = torch.bfloat16 if rounded else setup.dtype
    if rounded:  # probes and what comes back, once more
        memory["products in bfloat16"] = 4 * P * min(rank.most + options.n_oversamples, P)
        _refuse_above(limit, memory, setup.device)
    return Plan(solver, reason, setup.batch_size, cache, cache_reason, products, memory, limit)


def _fitting_solver(
    shape: tuple[int, int], most: int, options: Any, bytes_of: Callable[[str], int], room: int
) -> tuple[str, str]:
    solver, reason = select_solver(shape, most, options.n_oversamples)
    if solver == "exact" and bytes_of("exact") > room:
        solver, reason = "krylov", "The Gram matrix of 'exact' would not fit `max_memory`."
    if solver == "krylov" and bytes_of("krylov") > room >= bytes_of("subspace"):
        return "subspace", "The blocks of 'krylov' would not fit `max_memory`; 'subspace' keeps six."
    return solver, reason


def _plan_cache(options: Any, setup: Any, n_rows: int, solver: str, room: int) -> tuple[str | None, str]:
    option = options.gradient_cache
    if option != "auto":
        return option, "It was given by name."
    size, P = cache_bytes(n_rows, setup.parameters.n_parameters), setup.parameters.n_parameters
    if setup.dtype == torch.float64 or options.tol < CACHE_FROM_TOL:
        return None, f"Rounded gradients would cost digits that dtype={setup.dtype} or tol={options.tol:.0e} asks for."
    if solver not in ("krylov", "subspace", "arpack", "propack", "lobpcg") or setup.engine.name == "jvp":
        return None, f"solver='{solver}' with engine='{setup.engine.name}' reads no gradients twice."
    reuse = setup.cost.forward_flops / (2 * P)
    for where in ("device", "ram") if setup.device.type == "cuda" else ("device",):
        bound = READING_PAYS.get((setup.device.type, where), math.inf)
        if reuse > bound and size <= room:
            return where, f"Each parameter is used {reuse:.1f} times by an example, above {bound}: reading pays."
    if size > room:
        return None, f"It would need {_gib(size)}, and `max_memory` leaves {_gib(max(room, 0))}."
    return None, f"Each parameter is used {reuse:.1f} times by an example: forming gradients anew costs less."


def _refuse_above(limit: int, memory: dict[str, int], device: torch.device) -> None:
    needed = sum(memory.values())
    items = ", ".join(f"{name} {_gib(size)}" for name, size in memory.items())
    remedies = (
        "Lower `n_components` or `n_oversamples`, choose fewer `parameters`, a smaller `batch_size`, "
        "solver='subspace' or gradient_cache=None"
    )
    if needed > limit:
        raise ValueError(
            f"`max_memory` must hold what the fit works with, {_gib(needed)} ({items}). Got {_gib(limit)}. "
            f"{remedies}, or raise `max_memory`."
        )
    free = available_memory(device)
    if needed > free:
        raise MemoryError(
            f"The fit works with {_gib(needed)} ({items}), and {device} has {_gib(free)} free. "
            f"{remedies}, or free some memory."
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**27 else f"{size / 2**20:.1f} MiB"
