"""What a fit will do and what it needs, decided before it starts."""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch

from .._torch import available_memory
from ..fisher import cache_bytes, gram_bytes
from ..solvers import select_solver, select_spread, sketch_rows, sketch_width, solver_bytes
from ._rank import Rank
from ._setup import Setup

__all__ = [
    "Plan",
    "check_gradient_cache",
    "plan_fit",
    "shrink_batches",
]

# In their order, what is taken where the blocks of "krylov" would not fit.
SMALLER_SOLVERS = {
    "subspace": "The blocks of 'krylov' would not fit `max_memory`; 'subspace' keeps six.",
    "sketch-refined": "The six blocks of 'subspace' would not fit `max_memory`; 'sketch-refined' keeps three.",
    "sketch": "Three blocks of components would not fit `max_memory`; 'sketch' keeps none.",
}
OF_SEVERAL_PROCESSES = ("auto", "krylov", *SMALLER_SOLVERS)

LEAST_SHRUNK_BATCH_SIZE = 16  # below it, blocks of the solver and the cache are given up first

# Forward operations for each parameter, over 2, from which reading a bfloat16 row beats forming it
# again: R / (3 BW) for the arithmetic rate R and bandwidth BW of a CPU's memory, of a GPU's memory and
# of the host's memory seen from a GPU (10 GB/s at 1e11, 4.3 TB/s and 50 GB/s at 4e13).
READING_PAYS = {("cpu", "device"): 3.3, ("cuda", "device"): 3.0, ("cuda", "ram"): 267.0}

# Rounding gradients to bfloat16 was measured to lose 4e-8 (LeNet-5) to 3e-7 (ResNet-20) of the leading energy,
# products of them 5e-6.
CACHE_FROM_TOL = 1e-6
BFLOAT16_PRODUCTS_FROM_TOL = 1e-2


class FitOptions(Protocol):
    """Options of an estimator that decide the course of a fit."""

    solver: str
    tol: float
    max_sweeps: int | Literal["auto"]
    n_oversamples: int
    sketch_width: int | Literal["auto"]
    gradient_cache: str | None
    batch_size: int | str
    checkpoint: Any


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
    is_reduced : bool
        Whether a better solver, or a cache, was given up for want of memory.
    blocks, blocks_reason : str
        Where the solver's blocks are if several processes fit together: "whole" in each,
        or "spread" over them by parameter; and one sentence on the choice.
    """

    solver: str
    solver_reason: str
    batch_size: int
    cache: str | None
    cache_reason: str
    products: torch.dtype
    memory: dict[str, int]
    max_memory: int
    is_reduced: bool = False
    blocks: str = "whole"
    blocks_reason: str = "One process fits."

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


def shrink_batches(options: FitOptions, setup: Setup, n_rows: int, rank: Rank) -> Setup:
    """Return the setup with an automatic batch size halved until the fit has its memory, or it is 1.

    Down to 16 it is halved for the solver's blocks and the cache too, which are worth more;
    where that does not help, it stays what the bare fit allows.
    """
    if options.batch_size != "auto":
        return setup
    sizes = [setup.batch_size >> halvings for halvings in range(setup.batch_size.bit_length())]
    fitting = [(size, plan) for size in sizes if (plan := _plan_or_none(options, setup, n_rows, rank, size))]
    whole = [size for size, plan in fitting if size >= LEAST_SHRUNK_BATCH_SIZE and not plan.is_reduced]
    chosen = whole[0] if whole else fitting[0][0] if fitting else sizes[-1]
    return replace(setup, batch_size=chosen)


def _plan_or_none(options: FitOptions, setup: Setup, n_rows: int, rank: Rank, batch_size: int) -> Plan | None:
    try:
        return plan_fit(options, replace(setup, batch_size=batch_size), n_rows, rank)
    except ValueError:
        return None


def plan_fit(options: FitOptions, setup: Setup, n_rows: int, rank: Rank) -> Plan:
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
    held = max(setup.peers.n_rows, default=n_rows)  # in one process
    P, itemsize, limit = setup.parameters.n_parameters, torch.finfo(setup.dtype).bits // 8, setup.max_memory
    memory = {
        "gradients of a batch": 2 * setup.batch_size * P * itemsize,
        "activations of a batch": 2 * setup.batch_size * setup.cost.activation_bytes,
        "statistics": 5 * P * 8,
    }
    if setup.n_reference:  # in the model's dtype, and as they are drawn
        memory["samples of the model"] = 2 * setup.n_reference * math.prod(setup.rows_as.wanted or ()) * itemsize

    room = limit - sum(memory.values())
    solver, reason, blocks, blocks_reason, is_reduced = _plan_solver(options, setup, n_rows, rank, room)
    memory["solver"] = _bytes_of(solver, blocks, options, setup, n_rows, rank)
    _refuse_above(limit, memory, setup.device)
    cache, cache_reason, is_crowded = _plan_cache(options, setup, held, solver, limit - sum(memory.values()))
    if cache in ("device", "ram"):
        memory["gradient cache"] = cache_bytes(held, P)
        _refuse_above(limit, memory, setup.device)
    rounded = cache is not None and options.tol >= BFLOAT16_PRODUCTS_FROM_TOL and setup.dtype == torch.float32
    products = torch.bfloat16 if rounded else setup.dtype
    if rounded:  # probes and what comes back, once more
        memory["products in bfloat16"] = 4 * P * min(rank.most + options.n_oversamples, P)
        _refuse_above(limit, memory, setup.device)
    is_reduced = is_reduced or is_crowded
    return Plan(
        solver,
        reason,
        setup.batch_size,
        cache,
        cache_reason,
        products,
        memory,
        limit,
        is_reduced,
        blocks,
        blocks_reason,
    )


def _plan_solver(
    options: FitOptions, setup: Setup, n_rows: int, rank: Rank, room: int
) -> tuple[str, str, str, str, bool]:
    """Return the solver and why, where its blocks are and why, and whether memory forbade a better one."""
    is_alone, shape = setup.peers.is_alone, (n_rows, setup.parameters.n_parameters)
    if not (is_alone or options.solver in OF_SEVERAL_PROCESSES):
        raise ValueError(
            f"`solver` must be one of {OF_SEVERAL_PROCESSES} where several processes fit together: the others need "
            f"products with one row for each example of all. Got '{options.solver}'; choose one of these."
        )
    solver, reason = options.solver, "It was given by name."
    if solver == "auto":
        solver, reason = select_solver(shape, rank.most, options.n_oversamples)
        if solver == "exact" and not is_alone:
            solver, reason = "krylov", "The Gram matrix of 'exact' would need the examples of all processes in each."
    needed = functools.partial(_bytes_of, options=options, setup=setup, n_rows=n_rows, rank=rank)
    blocks, blocks_reason = _plan_blocks(options, setup, rank, solver, needed(solver, "whole") <= room)
    wanted, is_free = solver, options.solver == "auto"
    if is_free and solver == "exact" and needed("exact", blocks) > room:
        solver, reason = "krylov", "The Gram matrix of 'exact' would not fit `max_memory`."
    if is_free and solver == "krylov" and needed("krylov", blocks) > room:
        for smaller, why in SMALLER_SOLVERS.items():
            own = _plan_blocks(options, setup, rank, smaller, needed(smaller, "whole") <= room)
            if needed(smaller, own[0]) <= room:
                solver, reason, (blocks, blocks_reason) = smaller, why, own
                break
    return solver, reason, blocks, blocks_reason, solver != wanted


def _plan_blocks(options: FitOptions, setup: Setup, rank: Rank, solver: str, fits_whole: bool) -> tuple[str, str]:
    if setup.peers.is_alone:
        return "whole", "One process fits."
    if solver.startswith("sketch"):
        return "whole", "The rows of a sketch are spread."
    if options.checkpoint is not None:
        return "whole", "A checkpoint holds them whole."
    P, width = setup.parameters.n_parameters, rank.block_width + options.n_oversamples
    is_spread, reason = select_spread(setup.peers.size, P, width, setup.device.type)
    if not (is_spread or fits_whole):
        return "spread", "Whole they would not fit `max_memory`."
    return "spread" if is_spread else "whole", reason


def _bytes_of(solver: str, blocks: str, options: FitOptions, setup: Setup, n_rows: int, rank: Rank) -> int:
    """Return what a solver needs in one process, in bytes; of the rows of a sketch it holds its own."""
    P, itemsize = setup.parameters.n_parameters, torch.finfo(setup.dtype).bits // 8
    width = min((rank.block_width if solver == "krylov" else rank.most) + options.n_oversamples, P)
    formed = gram_bytes(n_rows, P, setup.batch_size, itemsize) if solver == "exact" else 0
    held = P
    if blocks == "spread":  # a block and its product are whole in a sweep, and the components in the end
        held = -(-P // setup.peers.size)
        formed += 2 * P * max(width, rank.most) * itemsize
    sketch = 0
    if solver.startswith("sketch"):
        sketch = sketch_width(options.sketch_width, rank.most, P)
        n_rows = sketch_rows(n_rows, max(setup.peers.n_rows, default=n_rows))
    return formed + solver_bytes(solver, (n_rows, held), width, rank.most, options.max_sweeps, itemsize, sketch)


def _plan_cache(options: FitOptions, setup: Setup, n_rows: int, solver: str, room: int) -> tuple[str | None, str, bool]:
    """Return where the cache is, why, and whether it is missing for want of memory alone."""
    option = options.gradient_cache
    if option != "auto":
        return option, "It was given by name.", False
    size, P = cache_bytes(n_rows, setup.parameters.n_parameters), setup.parameters.n_parameters
    if setup.dtype == torch.float64 or options.tol < CACHE_FROM_TOL:
        reason = f"Rounded gradients would cost digits that dtype={setup.dtype} or tol={options.tol:.0e} asks for."
        return None, reason, False
    if solver not in ("krylov", "subspace", "arpack", "propack", "lobpcg") or setup.engine.name == "jvp":
        return None, f"solver='{solver}' with engine='{setup.engine.name}' reads no gradients twice.", False
    reuse = setup.cost.forward_flops / (2 * P)
    places = ("device", "ram") if setup.device.type == "cuda" else ("device",)
    paying = [(p, READING_PAYS.get((setup.device.type, p), math.inf)) for p in places]
    paying = [(place, bound) for place, bound in paying if reuse > bound]
    if not paying:
        return (
            None,
            f"Each parameter is used {reuse:.1f} times by an example: forming gradients anew costs less.",
            False,
        )
    if size > room:
        return None, f"It would need {_gib(size)}, and `max_memory` leaves {_gib(max(room, 0))}.", True
    place, bound = paying[0]
    return place, f"Each parameter is used {reuse:.1f} times by an example, above {bound}: reading pays.", False


def _refuse_above(limit: int, memory: dict[str, int], device: torch.device) -> None:
    needed = sum(memory.values())
    items = ", ".join(f"{name} {_gib(size)}" for name, size in memory.items())
    remedies = (
        "Lower `n_components` or `n_oversamples`, choose fewer `parameters`, a smaller `batch_size`, "
        "solver='subspace', solver='sketch' or gradient_cache=None"
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
