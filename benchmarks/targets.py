"""What was promised, and whether the JSON says that it was met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .bench_estimates import FULL as ESTIMATED
from .cases import SIZES
from .measuring import significant

FIRST = object()  # in a path: the first key, whatever it is


@dataclass(frozen=True)
class Target:
    """A bound on one number of one row of one JSON; of several seeds', the worst counts."""

    claim: str
    benchmark: str
    row: str
    path: tuple[Any, ...]
    sense: str  # "at least" or "at most"
    bound: float
    needs_error: bool = False  # counts only at an error no larger than the competitor's
    beside: str = ""  # another number of the row: the distance from it counts

    @property
    def key(self) -> str:
        return f"{self.benchmark}.json: {self.row}"

    def value(self, results: dict[str, dict]) -> float | None:
        """Return the measured number, None where it was not measured."""
        found = self.row_of(results)
        for name in self.path:
            if not isinstance(found, dict) or not found:
                return None
            found = found.get(next(iter(found)) if name is FIRST else name)
        if found is None:
            return None
        values = found if isinstance(found, list) else [found]
        if self.beside:
            exact = self.row_of(results)[self.beside]
            values = [significant(abs(value - exact)) for value in values]  # a point is 0.01, not rounding above it
        return min(values) if self.sense == "at least" else max(values)

    def row_of(self, results: dict[str, dict]) -> dict[str, Any]:
        return results.get(self.benchmark, {}).get("results", {}).get("rows", {}).get(self.row, {})

    def verdict(self, results: dict[str, dict]) -> str:
        value = self.value(results)
        if value is None:
            return "not measured"
        holds = value >= self.bound if self.sense == "at least" else value <= self.bound
        if holds and self.needs_error and self.row_of(results).get("error_no_larger") is not True:
            return "not met: larger error"
        return "met" if holds else "not met"


def targets() -> Iterator[Target]:
    yield from against_competitors()
    yield from against_the_limit()
    yield Target("exponent of fit time in N", "scaling", "exponents", ("exponent",), "at most", 1.05)
    yield Target("working memory, 60k over 4k rows", "scaling", "memory", ("ratio",), "at most", 1.1)
    for name, N, K in ESTIMATED:
        row = f"{name}/{N}/{K}"
        yield Target("true error over its estimate", "estimates", row, ("largest_ratio",), "at most", 1.0)
        yield Target("true error over its estimate", "estimates", row, ("smallest_ratio",), "at least", 0.02)
    yield from past_one_machine()


def past_one_machine() -> Iterator[Target]:
    for row in ("lenet5/2000/64", "resnet20/1024/64"):
        yield Target("sketch: kernels of two seeds", "sketch", row, ("sketch", "cka_of_two_seeds"), "at least", 0.99)
        for solver, bound in (("sketch", 0.05), ("sketch-refined", 0.005)):
            path: tuple[str, ...] = (solver, "largest_error_of_leading")
            yield Target(f"{solver}: error of 16 singular values", "sketch", row, path, "at most", bound)
            claim, exact = f"{solver}: probe's distance from the exact one's", "probe_of_the_exact"
            yield Target(claim, "sketch", row, (solver, "probe"), "at most", 0.01, beside=exact)
            path = ("time_over_plain", f"{solver}, by sweep", "median")
            yield Target(f"{solver}: plain passes a sweep", "sketch", row, path, "at most", 2)
    yield Target("sketch of 100M parameters: memory, GB", "sketch", "large", ("peak_gb",), "at most", 8)
    for N in (2_000, 10_000):
        row = f"fit/resnet20/{N}/128"
        yield Target("times faster on two processes", "distributed", row, ("ratio", "median"), "at least", 1.8)


def against_competitors() -> Iterator[Target]:
    ratio = ("ratio", "median")
    for row, bound in (
        ("lenet5/10000/128", 80),
        ("resnet20/2000/128", 300),
        ("resnet20/10000/128", 300),
        ("dcgan/5000/128", 150),
        ("transformer/2000/64", 50),
        ("mlp/10000/128", 2),
    ):
        yield Target("times faster than the paper's", "competitors", f"{row}/paper", ratio, "at least", bound, True)
    yield Target("times faster than Gram", "competitors", "lenet5/10000/32/gram", ratio, "at least", 10, True)
    row = "resnet20/2000/32/curvlinops"
    yield Target("times faster than curvlinops", "competitors", row, ratio, "at least", 50, True)
    for name, N, K in SIZES:
        if (name, N, K) != ("resnet20", 2_000, 32):
            row = f"{name}/{N}/{K}/paper"
            yield Target("paper over a plain loop", "competitors", row, ("paper_over_handwritten",), "at most", 1.2)


def against_the_limit() -> Iterator[Target]:
    for name, N, K in SIZES:
        row = f"{name}/{N}/{K}"
        yield Target("fit over its limit", "limit", row, ("options", FIRST, "over_limit"), "at most", 2)
        path = ("options", FIRST, "transform_over_limit")
        yield Target("transform over its limit", "limit", row, path, "at most", 1.7)
    epochs = ("options", FIRST, "training_epochs")
    for row, bound in (("resnet20/2000/128", 8), ("resnet20/10000/128", 8), ("dcgan/5000/128", 20)):
        yield Target("training epochs of a fit", "limit", row, epochs, "at most", bound)
