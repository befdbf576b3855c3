"""Which solver suits a shape, and solvers by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ._exact import Exact
from ._krylov import AUTO_SWEEPS, BlockKrylov
from ._orthonormal import CHUNK_ENTRIES
from ._paper import Paper
from ._result import SVDResult
from ._scipy import ScipySVDS
from ._sketch import GRAM_ROWS, IN_MEMORY, Sketch, SketchRefined
from ._subspace import AUTO_SWEEPS as AUTO_SUBSPACE_SWEEPS
from ._subspace import SubspaceIteration

__all__ = [
    "SOLVERS",
    "Solver",
    "make_solver",
    "most_sweeps",
    "select_solver",
    "select_spread",
    "solver_bytes",
    "starts_from_a_block",
]

SOLVERS = ("krylov", "subspace", "exact", "sketch", "sketch-refined", "paper", "arpack", "propack", "lobpcg")

SKETCH_SWEEPS = {"sketch": 1, "sketch-refined": 3}

Solver = Callable[..., SVDResult]  # (Operator, int | RankRule, torch.Generator)

# A float64 Gram matrix of 0.5 GiB, and minutes of its eigendecomposition on two cores.
EXACT_MAX_EXAMPLES = 8192

# Between two sweeps "krylov" multiplies matrices of P rows some six times, and twice more for each block that it
# keeps, and sums inner products as often.
BETWEEN_SWEEPS = 24.0
EXCHANGES = 10
# Products per second of such matrices, and bytes per second between processes.
ASSUMED_RATES = {"cpu": (4e10, 1e9), "cuda": (2e13, 2e10)}
ASSUMED_LATENCY = 1e-3  # of an exchange, with the question whether all are there


def select_solver(shape: tuple[int, int], n_components: int, n_oversamples: int = 10) -> tuple[str, str]:
    """Choose a solver for a matrix of shape (N, P).

    "exact" where its Gram matrix costs no more products than two Krylov sweeps,
    else "krylov". A sweep multiplies N rows twice by K + n_oversamples columns, a
    Gram matrix once by N.

    Cost: no visit.

    Parameters
    ----------
    shape : tuple of int
        (N, P).
    n_components : int
        K, or the most components that a share of the trace may take.
    n_oversamples : int

    Returns
    -------
    name : str
    reason : str
        One sentence, with the numbers.
    """
    n_examples = shape[0]
    columns = 4 * (n_components + n_oversamples)
    bound = min(columns, EXACT_MAX_EXAMPLES)
    limits = f"min(4 (n_components + n_oversamples), {EXACT_MAX_EXAMPLES}) = {bound}"
    if n_examples <= bound:
        return (
            "exact",
            f"{n_examples} examples are at most {limits}: a Gram matrix costs no more than two sweeps.",
        )
    return "krylov", f"{n_examples} examples are more than {limits}: sweeps cost less than a Gram matrix."


def select_spread(n_processes: int, n_parameters: int, block: int, device_type: str) -> tuple[bool, str]:
    """Choose where the blocks of a solver are when several processes fit together.

    Whole in each, all of them do the same work between sweeps; spread by parameter,
    each does its part, and a sweep sends its block once more. The lesser time is
    chosen, at rates that are assumed, so that a plan is the same on every day.

    Cost: no visit.

    Parameters
    ----------
    n_processes : int
        How many they are.
    n_parameters : int
        P.
    block : int
        Columns of a block.
    device_type : str
        "cpu" or "cuda".

    Returns
    -------
    is_spread : bool
        Whether they are spread.
    reason : str
        One sentence, with the numbers.
    """
    flops, sending = ASSUMED_RATES.get(device_type, ASSUMED_RATES["cpu"])
    others = 1 - 1 / n_processes
    saved = BETWEEN_SWEEPS * n_parameters * block**2 / flops * others
    sent = 2 * 4 * n_parameters * block / sending * others + EXCHANGES * ASSUMED_LATENCY * n_processes.bit_length()
    verdict = f"spread by parameter, a sweep saves {saved:.2g} s of arithmetic and sends for {sent:.2g} s more"
    return saved > sent, f"By assumed rates, {verdict}."


def starts_from_a_block(solver: str) -> bool:
    """Tell whether a solver takes the block that it starts from.

    Parameters
    ----------
    solver : str
        One of `SOLVERS`.

    Returns
    -------
    bool
        True for "krylov" and "subspace".
    """
    return solver in ("krylov", "subspace")


def most_sweeps(solver: str, max_sweeps: int | Literal["auto"], n_components: int, block: int) -> int:
    """Return the most sweeps that a solver makes.

    Parameters
    ----------
    solver : str
        One of `SOLVERS`; for others than those named here, as "subspace".
    max_sweeps : int or "auto"
        As "krylov" and "subspace" take it; "sketch" makes 1, "sketch-refined" 3.
    n_components : int
        K, or the most components that a share of the trace may take.
    block : int
        Columns of a block.

    Returns
    -------
    int
        Their number.
    """
    if solver in SKETCH_SWEEPS:
        return SKETCH_SWEEPS[solver]
    if max_sweeps != "auto":
        return max_sweeps
    return AUTO_SWEEPS + n_components // block if solver == "krylov" else AUTO_SUBSPACE_SWEEPS


def solver_bytes(
    solver: str,
    shape: tuple[int, int],
    block: int,
    n_components: int,
    max_sweeps: int | Literal["auto"] = "auto",
    itemsize: int = 4,
    sketch_width: int = 0,
) -> int:
    """Return an upper bound of the memory that a solver works with, in bytes.

    Cost: no visit.

    Parameters
    ----------
    solver : str
        One of `SOLVERS`.
    shape : tuple of int
        (N, P).
    block : int
        Columns of a block.
    n_components : int
        K, or the most components that a share of the trace may take.
    max_sweeps : int or "auto"
        For "krylov", which keeps a block for each.
    itemsize : int
        Bytes of a number.
    sketch_width : int
        Columns of a sketch.

    Returns
    -------
    int
        Of all blocks of (P, L) and (N, L) numbers, and of Gram matrices.
    """
    N, P = shape
    if solver == "sketch":
        name, copied = ("exact", 8 * min(CHUNK_ENTRIES, N * sketch_width)) if N <= GRAM_ROWS else ("krylov", 0)
        sweeps = IN_MEMORY.max_sweeps
        block += IN_MEMORY.n_oversamples
        decomposed = solver_bytes(name, (N, sketch_width), block, n_components, sweeps, itemsize) + copied
        return 2 * N * (sketch_width + block) * itemsize + 8 * N * block + 4 * P * itemsize + decomposed
    components = 2 * n_components * P * itemsize
    rounded_up = 0 if itemsize == 8 else 8 * min(CHUNK_ENTRIES, P * block)  # a float64 copy, for inner products
    if solver == "krylov":
        return (
            (most_sweeps(solver, max_sweeps, n_components, block) + 3) * P * block * itemsize + components + rounded_up
        )
    if solver == "subspace":
        return 6 * P * block * itemsize + components + rounded_up
    if solver == "sketch-refined":
        sketch = solver_bytes("sketch", shape, block, n_components, itemsize=itemsize, sketch_width=sketch_width)
        return sketch + 3 * P * block * itemsize + components // 2 + rounded_up
    if solver == "exact":
        return 6 * N * N * 8 + components  # the Gram matrix, its eigenvectors, and copies of both
    if solver == "paper":
        return (4 * P + 2 * N) * block * itemsize + components
    return (2 * n_components + 20) * (N + P) * 8 + components  # scipy's, in float64


def make_solver(
    name: str,
    tol: float = 1e-3,
    max_sweeps: int | Literal["auto"] = "auto",
    n_oversamples: int = 10,
    sketch_width: int | Literal["auto"] = "auto",
) -> Solver:
    """Build a solver by name.

    Parameters
    ----------
    name : str
        One of `SOLVERS`.
    tol : float
        Error estimate to reach; `ScipySVDS` says what scipy's solvers make of it.
    max_sweeps : int or "auto"
        For "krylov" and "subspace".
    n_oversamples : int
        For "krylov", "subspace", "sketch-refined" and "paper".
    sketch_width : int or "auto"
        For "sketch" and "sketch-refined".

    Returns
    -------
    Solver
        Called as ``solver(operator, n_components, generator)``.
    """
    if name == "krylov":
        return BlockKrylov(tol=tol, max_sweeps=max_sweeps, n_oversamples=n_oversamples)
    if name == "subspace":
        return SubspaceIteration(tol=tol, max_sweeps=max_sweeps, n_oversamples=n_oversamples)
    if name == "exact":
        return Exact()
    if name == "sketch":
        return Sketch(width=sketch_width)
    if name == "sketch-refined":
        return SketchRefined(width=sketch_width, n_oversamples=n_oversamples)
    if name == "paper":
        return Paper(n_oversamples=n_oversamples)
    if name in ("arpack", "propack", "lobpcg"):
        return ScipySVDS(solver=name, tol=tol)  # type: ignore[arg-type]  # narrowed by the line above
    raise ValueError(f"`solver` must be 'auto' or one of {SOLVERS}. Got {name!r}; choose one of them.")
