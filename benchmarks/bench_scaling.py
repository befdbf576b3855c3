"""How time and memory of a fit grow with the number of rows, and where the Gram matrix stops.

LeNet-5, K = 32, solver="krylov": N = 2^9 to 2^15 for time, 4,000 and 60,000 memory-mapped rows for working memory.
Each number of rows is a process of its own. The paper's models are in ``growth``.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import children, ours
from .cases import CASES, replace_rows
from .competitors_explicit import GramTruncatedSVD
from .measuring import interleaved, significant, summary, timed
from .memory import peak_of
from .problem import Problem

TAKES = ("repeats",)
N_REPEATS = 3
FULL = {
    "name": "lenet5",
    "K": 32,
    "times": [2**i for i in range(9, 16)],
    "gram_up_to": 2**13,
    "memory": [4_000, 60_000],
}
SMOKE = {"name": "tiny", "K": 4, "times": [64, 128], "gram_up_to": 64, "memory": [100, 200]}


def rows(device: str, smoke: bool, repeats: int = N_REPEATS) -> Iterator[tuple[str, dict[str, Any]]]:
    sizes = SMOKE if smoke else FULL
    common = {"name": sizes["name"], "n_components": sizes["K"], "device": device}
    points = []
    for N in sizes["times"]:
        arguments = {**common, "n_examples": N, "repeats": 1 if smoke else repeats, "gram": sizes["gram_up_to"] >= N}
        row = time_of_fit(**arguments) if smoke else children.call("benchmarks.bench_scaling:time_of_fit", **arguments)
        points.append(row)
        yield f"time/{N}", row
    yield "exponents", {**common, **exponents(points)}
    yield from memory(sizes["memory"], common)


def is_complete(rows: dict[str, dict]) -> bool:
    sizes = (f"{kind}/{N}" for kind, of in (("time", "times"), ("memory", "memory")) for N in FULL[of])
    return {*sizes, "exponents", "memory"} <= rows.keys()


def memory(numbers: list[int], common: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    found = [children.call("benchmarks.bench_scaling:memory_of_fit", n_examples=N, **common) for N in numbers]
    for row in found:
        yield f"memory/{row['n_examples']}", row
    yield "memory", {"ratio": significant(found[-1]["working_bytes"] / max(found[0]["working_bytes"], 1))}


def time_of_fit(name: str, n_examples: int, n_components: int, device: str, repeats: int, gram: bool) -> dict[str, Any]:
    """Seconds of a fit and, where it is still possible, of the Gram matrix and TruncatedSVD."""
    target = torch.device(device)
    case, fitted = CASES[name](n_examples), []
    options = {"solver": "krylov"}

    def fit() -> float:
        seconds, nfk = timed(lambda: ours.fit(case, n_components, target, **options), target)
        fitted[:] = [nfk]
        return seconds

    methods = {"fit": fit}
    if gram:
        nfk = ours.fit(case.head(min(256, n_examples)), n_components, target, **options)
        statistics = (torch.as_tensor(np.array(a)) for a in (nfk.mean_score_, nfk.scale_))
        competitor = GramTruncatedSVD(Problem(case, n_components, target, *statistics, nfk.engine_))
        competitor.tune()
        methods["gram"] = competitor.seconds
    seconds = interleaved(methods, repeats)
    return {
        "n_examples": n_examples,
        "n_components": n_components,
        "seed": 0,
        "n_repeats": repeats,
        "seconds": summary(seconds["fit"]),
        "gram_seconds": summary(seconds["gram"]) if gram else None,
        **ours.plan(fitted[0]),
    }


def exponents(points: list[dict[str, Any]]) -> dict[str, float]:
    """Slope of log time over log N; that of the Gram matrix over the upper half of its points."""
    gram = [point for point in points if point["gram_seconds"]]
    return {
        "exponent": slope([(point["n_examples"], point["seconds"]["median"]) for point in points]),
        "exponent_per_sweep": slope([(p["n_examples"], p["seconds"]["median"] / (p["n_sweeps"] + 1)) for p in points]),
        "gram_exponent": slope([(p["n_examples"], p["gram_seconds"]["median"]) for p in gram[len(gram) // 2 :]]),
    }


def slope(points: list[tuple[float, float]]) -> float | None:
    if len(points) < 2:
        return None
    x, y = np.array([[math.log(n), math.log(t)] for n, t in points]).T
    return significant(float(np.polyfit(x, y, 1)[0]))


def memory_of_fit(name: str, n_examples: int, n_components: int, device: str) -> dict[str, Any]:
    """Working memory of a fit without a gradient cache, with X on disk."""
    case = CASES[name](n_examples)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        np.save(path, case.X)
        case = replace_rows(case, np.load(path, mmap_mode="r"))
        options = {"solver": "krylov", **ours.without_cache()}
        fitted = []
        peak = peak_of(
            lambda: fitted.append(ours.fit(case, n_components, torch.device(device), **options)), torch.device(device)
        )
        return {"n_examples": n_examples, "n_components": n_components, "seed": 0, **peak, **ours.plan(fitted[0])}
