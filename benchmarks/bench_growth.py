"""Figure 3: how the time of a fit grows with the number of rows and with the rank, beside the Gram matrix.

DCGAN, and WRN-40-2 with random weights; solver="krylov". By rows: K = 32, N from 2^7 on; the Gram matrix as long as V
takes less than 10 GB. By rank: K from 8 to 128, or 64. Fits of a minute or more are timed once, others
three times. A row is one fit's size, in a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import children
from .bench_scaling import N_REPEATS, time_of_fit

TAKES = ("cases", "done")
K = 32


@dataclass(frozen=True)
class Sizes:
    n_examples: tuple[int, ...]
    gram_up_to: int
    ranks: tuple[int, ...]
    n_examples_of_ranks: int
    repeated_up_to: int  # rows


SIZES = {
    "dcgan": Sizes(tuple(2**i for i in range(7, 13)), 2**11, (8, 16, 32, 64, 128), 2**9, 2**9),
    # With K = 128 the blocks of "krylov" take 13 GB.
    "wrn40_2": Sizes(tuple(2**i for i in range(7, 11)), 2**10, (8, 16, 32, 64), 2**8, 2**7),
}


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        yield "tiny/time/64", time_of_fit("tiny", 64, 4, device, repeats=1, gram=True)
        yield "tiny/rank/3", time_of_fit("tiny", 64, 3, device, repeats=1, gram=False)
        return
    for key, arguments in fits().items():
        if key not in done and key.split("/")[0] in (cases or SIZES):
            yield key, children.call("benchmarks.bench_scaling:time_of_fit", device=device, **arguments)


def fits() -> dict[str, dict[str, Any]]:
    """Arguments of ``time_of_fit`` by the key of their row."""
    found = {}
    for name, sizes in SIZES.items():
        of_rank = {"n_examples": sizes.n_examples_of_ranks, "gram": False}
        for N in sizes.n_examples:
            found[f"{name}/time/{N}"] = {"n_examples": N, "n_components": K, "gram": sizes.gram_up_to >= N}
        for rank in sizes.ranks:
            found[f"{name}/rank/{rank}"] = {**of_rank, "n_components": rank}
        for key in (key for key in found if key.startswith(f"{name}/")):
            often = found[key]["n_examples"] <= sizes.repeated_up_to
            found[key] |= {"name": name, "repeats": N_REPEATS if often else 1}
    return found


def is_complete(rows: dict[str, dict]) -> bool:
    return fits().keys() <= rows.keys()
