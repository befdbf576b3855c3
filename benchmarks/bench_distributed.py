"""One fit on several processes: two of one thread against one of one thread, and a model of what they send.

Each measured fit is in processes of its own, in turns. The sums of a sweep are all-reduces; the time of one is taken
for ``2 (n - 1)`` messages of latency a and ``2 (n - 1) / n`` times its bytes at b bytes a second, as a ring sends them.
a and b are fitted to measured all-reduces, and held against others that the fit has not seen. What a fit takes on n
processes is predicted for up to 1,024 of them: the messages, a part that is shared out and one that is not, which
follow from the times on one and on two.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed as dist

from sknfk import NFKTransformer

from .cases import CASES, Case, has_zoo
from .measuring import interleaved, significant, summary, timed

ROOT = Path(__file__).resolve().parent.parent
TAKES = ("cases", "components", "examples", "repeats")
N_REPEATS = 5
SIZES = [2**power for power in range(12, 28)]  # bytes of a message
N_MESSAGES = 7
N_PROCESSES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def rows(
    device: str,
    smoke: bool,
    cases: tuple[str, ...] = (),
    components: tuple[int, ...] = (),
    examples: tuple[int, ...] = (),
    repeats: int = N_REPEATS,
) -> Iterator[tuple[str, dict[str, Any]]]:
    if device != "cpu":
        return
    sizes = SIZES[:6] if smoke else SIZES
    groups = {n: group("messages", n, sizes=sizes)["seconds"] for n in ((2,) if smoke else (2, 3, 4))}
    model = fitted_model(groups)
    yield "messages", {"sizes": sizes, "seconds": groups, **model}
    names = cases or (("tiny",) if smoke else ("resnet20",) if has_zoo() else ())
    for name in names:
        n, k = (examples or (64 if smoke else 2000,))[0], (components or (4 if smoke else 128,))[0]
        row = compared(name, n, k, 1 if smoke else repeats)
        yield f"fit/{name}/{n}/{k}", {**row, "predicted": predictions(row, model)}


def compared(name: str, n_examples: int, n_components: int, n_repeats: int) -> dict[str, Any]:
    """Fit on one and on two processes in turns."""
    found: dict[int, list[dict]] = {1: [], 2: []}

    def fit(n_processes: int) -> float:
        answer = group("fit", n_processes, case=name, n_examples=n_examples, n_components=n_components)
        found[n_processes].append(answer)
        return answer["seconds"]

    seconds = interleaved({"one": lambda: fit(1), "two": lambda: fit(2)}, n_repeats)
    one, two = found[1][-1], found[2][-1]
    ratios = [a / b for a, b in zip(seconds["one"], seconds["two"], strict=True)]
    return {
        "case": name,
        "n_examples": n_examples,
        "n_components": n_components,
        **{key: one[key] for key in ("n_parameters", "n_sweeps", "block")},
        "threads_per_process": 1,
        "blocks": two["blocks"],
        "seconds": {which: summary(values) for which, values in seconds.items()},
        "seconds_over_rows": {
            which: summary(answer["seconds_over_rows"] for answer in found[n]) for which, n in (("one", 1), ("two", 2))
        },
        "ratio": summary(ratios),
        "difference_of_singular_values": significant(relative(two["singular_values"], one["singular_values"])),
    }


def relative(found: list[float], expected: list[float]) -> float:
    return float(np.linalg.norm(np.subtract(found, expected)) / np.linalg.norm(expected))


def fitted_model(groups: dict[int, list[list[float]]]) -> dict[str, Any]:
    """Fit a and b to every second size, by least squares of relative errors; hold them against the others."""
    points = [
        (n, size, float(np.median(times)))
        for n, of_sizes in groups.items()
        for size, times in zip(SIZES, of_sizes, strict=False)
    ]
    known, unseen = points[::2], points[1::2]
    terms = np.array([[2 * (n - 1), 2 * (n - 1) / n * size] for n, size, _ in known])
    measured = np.array([seconds for _, _, seconds in known])
    (latency, per_byte), *_ = np.linalg.lstsq(terms / measured[:, None], np.ones(len(known)), rcond=None)
    model = {"latency": max(float(latency), 1e-7), "bytes_per_second": 1 / max(float(per_byte), 1e-12)}
    errors = [all_reduce_seconds(model, n, size) / seconds - 1 for n, size, seconds in unseen]
    return {**{k: significant(v) for k, v in model.items()}, "errors_of_unseen": list(map(significant, errors))}


def all_reduce_seconds(model: dict[str, Any], n_processes: int, size: float) -> float:
    steps = 2 * (n_processes - 1)
    return steps * model["latency"] + steps / n_processes * size / model["bytes_per_second"]


def predictions(row: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the fit on n processes: what is not shared, an n-th of what is, and the messages."""
    one, two = (row["seconds"][which]["median"] for which in ("one", "two"))
    is_spread = row["blocks"] == "spread"
    # The pass of the statistics sends one block, a sweep one, or two where blocks are spread.
    n_sent = 1 + row["n_sweeps"] * (2 if is_spread else 1)
    block_bytes = 4 * row["n_parameters"] * row["block"]

    def sending(n: int) -> float:
        return n_sent * all_reduce_seconds(model, n, block_bytes)

    shared = min(one, 2 * max(0.0, one - two + sending(2)))
    seconds = {n: one - shared + shared / n + sending(n) for n in N_PROCESSES}
    return {
        "shared_seconds": significant(shared),
        **{str(n): {"seconds": significant(s), "ratio": significant(one / s)} for n, s in seconds.items()},
    }


def group(work: str, n_processes: int, **arguments: Any) -> dict[str, Any]:
    """Run a function of this file in a group of processes of one thread; return what the first finds."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "benchmarks.bench_distributed", work, folder, str(n_processes)]
        commands = [[*command, str(rank), json.dumps(arguments)] for rank in range(n_processes)]
        started = [subprocess.Popen(command, cwd=ROOT, env=environment) for command in commands]
        statuses = [process.wait() for process in started]
        if any(statuses):
            raise RuntimeError(f"A process of {work} failed: {statuses}.")
        return json.loads((Path(folder) / "answer").read_text())


def fit(rank: int, size: int, case: str, n_examples: int, n_components: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    given: Case = CASES[case](n_examples)
    part = slice(rank * n_examples // size, (rank + 1) * n_examples // size)
    options = {"density": given.density, "solver": "krylov", "random_state": 0, "tol": 1e-3}
    nfk = NFKTransformer(given.model, n_components, **options)
    NFKTransformer(given.model, 2, **options).fit(given.X[part][:16])  # what is loaded and tried once
    blocks = nfk.explain(given.X[part]).plan.blocks
    watch = OverRows()
    if size > 1:
        dist.barrier()
    with watch:
        seconds, found = timed(lambda: nfk.fit(given.X[part]), torch.device("cpu"))
    return {
        "seconds": seconds,
        "seconds_over_rows": watch.seconds,
        "n_parameters": found.n_parameters_,
        "n_sweeps": found.n_sweeps_,
        "block": n_components + nfk.n_oversamples,
        "blocks": blocks,
        "singular_values": found.singular_values_.tolist(),
    }


class OverRows:
    """Adds up the time of visits to the rows."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        from sknfk.fisher import _statistics, _vectors

        self._modules, self._visit = (_statistics, _vectors), _vectors.visit

        def visit(*arguments: Any) -> None:
            started = time.perf_counter()
            self._visit(*arguments)
            self.seconds += time.perf_counter() - started

        for module in self._modules:
            module.visit = visit

    def __exit__(self, *error: object) -> None:
        for module in self._modules:
            module.visit = self._visit


def messages(rank: int, size: int, sizes: list[int]) -> dict[str, Any]:
    torch.set_num_threads(1)
    seconds = []
    for n_bytes in sizes:
        tensor = torch.zeros(n_bytes // 4)
        dist.all_reduce(tensor)
        times = []
        for _ in range(N_MESSAGES):
            dist.barrier()
            started = time.perf_counter()
            dist.all_reduce(tensor)
            times.append(significant(time.perf_counter() - started))
        seconds.append(times)
    return {"seconds": seconds}


def main(work: str, folder: str, size: str, rank: str, arguments: str) -> None:
    if int(size) > 1:
        store = f"file://{folder}/store"
        dist.init_process_group("gloo", init_method=store, rank=int(rank), world_size=int(size))
    answer = {"fit": fit, "messages": messages}[work](int(rank), int(size), **json.loads(arguments))
    if int(size) > 1:
        dist.barrier()
        dist.destroy_process_group()
    if rank == "0":
        (Path(folder) / "answer").write_text(json.dumps(answer))
    # Threads of gloo may abort an interpreter that is being taken down: see torch's pull request 179291.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
