"""Times: synchronised, interleaved, as medians and quartiles; the two rates that bound a fit from below."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from .cases import Case, LogDensity

BATCH_SIZES = (64, 128, 256, 512, 1024)
MAX_PRODUCT_BYTES = 2**30
SHORT = 2.0  # seconds
CLOSE, FINAL_ROUNDS = 1.3, 2  # of tuning


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(function: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Return the seconds that a call takes, its work on the device included, and what it returns."""
    synchronise(device)
    started = time.perf_counter()
    result = function()
    synchronise(device)
    return time.perf_counter() - started, result


def interleaved(methods: dict[str, Callable[[], float]], n_repeats: int) -> dict[str, list[float]]:
    """Let methods take turns, A B A B, so that a slow minute hits all of them; each call returns its seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(n_repeats):
        for name, method in methods.items():
            seconds[name].append(method())
    return seconds


def summary(values: Iterable[float]) -> dict[str, Any]:
    """Median, quartiles and all values."""
    values = [float(value) for value in values]
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {
        "median": significant(median),
        "q1": significant(q1),
        "q3": significant(q3),
        "all": list(map(significant, values)),
    }


def significant(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


def fastest(seconds_of: Callable[[Any], float], candidates: Iterable[Any], budget: float = 30.0) -> Any:
    """Return the candidate of the fewest seconds per row.

    One that runs out of memory ends the search, and so does the budget, in seconds, once one has been tried. Those
    close to the best are asked again in turns, and the least of the answers counts: one slow moment decides nothing.
    """
    found: dict[Any, float] = {}
    started = time.perf_counter()
    for candidate in candidates:
        if found and time.perf_counter() - started > budget:
            break
        try:
            first, found[candidate] = time.perf_counter(), seconds_of(candidate)
            if time.perf_counter() - first < SHORT:  # the first call allocates and plans: ask again
                found[candidate] = seconds_of(candidate)
        except (torch.OutOfMemoryError, MemoryError):
            break
    if not found:
        raise MemoryError("No candidate fits in memory.")
    close = [candidate for candidate, seconds in found.items() if seconds <= CLOSE * min(found.values())]
    for candidate in close * FINAL_ROUNDS if len(close) > 1 else ():
        found[candidate] = min(found[candidate], seconds_of(candidate))
    return min(found, key=lambda candidate: found[candidate])


class PlainPasses:
    """What training does with the same rows: forward and backward of the mean log-density, batch by batch.

    ``seconds()`` is one pass over all rows in eval mode; with ``training=True`` the model is in training mode
    and takes an SGD step for each batch (at rate 0, so that every epoch does the same work).
    """

    def __init__(self, case: Case, device: torch.device, training: bool = False) -> None:
        model = copy.deepcopy(case.model).to(device).train(training).requires_grad_(True)
        self.log_density = LogDensity(model, case.density)
        self.X = torch.from_numpy(case.X)
        self.device = device
        self.optimiser = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9) if training else None
        self.batch_size = self._tune()

    def _tune(self) -> int:
        sizes = sorted({min(size, len(self.X)) for size in BATCH_SIZES})
        return fastest(lambda size: self.seconds(size, size) / size, sizes)

    def seconds(self, batch_size: int | None = None, n_rows: int | None = None) -> float:
        return timed(lambda: self._epoch(batch_size or self.batch_size, n_rows or len(self.X)), self.device)[0]

    def _epoch(self, batch_size: int, n_rows: int) -> None:
        for x in self.X[:n_rows].split(batch_size):
            self.log_density.zero_grad()
            self.log_density(x.to(self.device)).mean().backward()
            if self.optimiser is not None:
                self.optimiser.step()


def matmul_rates(
    n_parameters: int, n_columns: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> dict[str, float]:
    """FLOPs per second of products: of a square matrix, and of a sweep's two, (B, P) (P, L) and its transpose.

    The larger of the two is the machine's rate; a limit that is computed from it is the harder one.
    """
    itemsize = torch.finfo(dtype).bits // 8
    shaped = [
        rate_of_sweep(size, n_parameters, n_columns, device, dtype)
        for size in (128, 512, 2048)
        if size == 128 or size * n_parameters * itemsize <= MAX_PRODUCT_BYTES
    ]
    rates = {"sweep": max(shaped), "square": rate_of_square(2048 if device.type == "cpu" else 8192, device, dtype)}
    return {**{name: significant(rate) for name, rate in rates.items()}, "best": significant(max(rates.values()))}


def rate_of_square(size: int, device: torch.device, dtype: torch.dtype) -> float:
    A = torch.randn(size, size, device=device).to(dtype)
    B = torch.empty_like(A)
    return 2 * size**3 / best_of(lambda: torch.mm(A, A, out=B), device)


def rate_of_sweep(batch: int, n_parameters: int, n_columns: int, device: torch.device, dtype: torch.dtype) -> float:
    gradients = torch.randn(batch, n_parameters, device=device).to(dtype)  # (B, P)
    W = torch.randn(n_parameters, n_columns, device=device).to(dtype)  # (P, L)
    total = torch.zeros_like(W)

    def sweep() -> Tensor:
        return total.addmm_(gradients.T, gradients @ W)

    return 4 * batch * n_parameters * n_columns / best_of(sweep, device)


def best_of(function: Callable[[], Any], device: torch.device, n_repeats: int = 5) -> float:
    return min(timed(function, device)[0] for _ in range(n_repeats + 1))


def product_flops(n_examples: int, n_parameters: int, n_columns: int) -> float:
    """FLOPs of one product of (N, P) with (P, L), or of its transpose with (N, L)."""
    return 2.0 * n_examples * n_parameters * n_columns
