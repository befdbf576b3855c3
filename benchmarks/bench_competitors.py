"""Ours against other ways to the same factorisation: one process for each comparison.

``ratio`` is the competitor's time over ours, taken turn by turn, at an error no larger than the competitor's
(``error_no_larger``); against "paper" the faster of our ``solver="paper"`` and a plain torch loop counts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from . import children
from .cases import SIZES
from .comparison import GROUPS, compare

TAKES = ("cases", "competitors", "components", "examples", "repeats")
N_REPEATS = 3
SMOKE = (("tiny", 150, 4),)
ONLY = {("resnet20", 2_000, 32): ("curvlinops",)}
SMOKE_TOKENS = ("tiny_tokens", 60, 3)


def rows(
    device: str,
    smoke: bool,
    cases: tuple[str, ...] = (),
    competitors: tuple[str, ...] = (),
    components: tuple[int, ...] = (),
    examples: tuple[int, ...] = (),
    repeats: int = N_REPEATS,
) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, N, K, competitor in comparisons(smoke):
        wanted = ((cases, name), (competitors, competitor), (components, K), (examples, N))
        if any(chosen and value not in chosen for chosen, value in wanted):
            continue
        arguments = {"name": name, "n_examples": N, "n_components": K, "competitor": competitor, "device": device}
        yield f"{name}/{N}/{K}/{competitor}", one_row({**arguments, "repeats": 1 if smoke else repeats}, smoke)


def comparisons(smoke: bool) -> list[tuple[str, int, int, str]]:
    if smoke:
        return [(*size, competitor) for size in SMOKE for competitor in GROUPS] + [(*SMOKE_TOKENS, "paper")]
    return [(*size, competitor) for size in SIZES for competitor in ONLY.get(size, tuple(GROUPS))]


def one_row(arguments: dict[str, Any], smoke: bool) -> dict[str, Any]:
    if smoke:
        return compare(**arguments)
    # Its own process: a reference in float64 leaves a large heap behind.
    children.call("benchmarks.reference:make", **{k: arguments[k] for k in ("name", "n_examples", "n_components")})
    try:
        return children.call("benchmarks.comparison:compare", **arguments)
    except children.ChildFailed as failure:  # hours of other rows are not lost with one
        print(failure.details, file=sys.stderr)
        return {**arguments, "case": arguments["name"], "failed": str(failure)}
