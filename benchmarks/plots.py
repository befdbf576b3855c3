"""Pictures of the benchmarks' page; each holds a digest of the numbers that it shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IMAGES = Path("docs") / "images"


@dataclass(frozen=True)
class Plot:
    """Drawn from the rows of one benchmark."""

    benchmark: str
    paint: Callable[[Any, dict[str, dict]], None]  # (axes, rows)


def scaling(axes, rows: dict[str, dict]) -> None:
    times = sorted((row for key, row in rows.items() if key.startswith("time/")), key=lambda row: row["n_examples"])
    gram = [row for row in times if row["gram_seconds"]]
    for label, shown, name in (("sknfk", times, "seconds"), ("Gram and TruncatedSVD", gram, "gram_seconds")):
        axes.loglog([row["n_examples"] for row in shown], [row[name]["median"] for row in shown], "o-", label=label)
    axes.set(xlabel="rows N", ylabel="seconds", title="LeNet-5, K = 32")
    axes.legend()


def estimates(axes, rows: dict[str, dict]) -> None:
    for number, (key, row) in enumerate(sorted(rows.items())):
        found = row["seeds"][0]
        sweeps = range(2, len(found["true"]) + 1)
        shown = [max(value, 1e-9) for value in found["true"][1:]]
        axes.semilogy(sweeps, shown, "o-", color=f"C{number}", label=key)
        axes.semilogy(sweeps, [max(value, 1e-9) for value in found["estimate"][1:]], "--", color=f"C{number}")
    axes.set(xlabel="sweeps", ylabel="share of the energy lost", title="True (solid) and estimated (dashed)")
    axes.legend(fontsize="small")


PLOTS = {
    "benchmarks-scaling.png": Plot("scaling", scaling),
    "benchmarks-estimates.png": Plot("estimates", estimates),
}


def draw(results: dict[str, dict], root: Path) -> Iterator[Path]:
    """Write the picture of each benchmark that was run."""
    from matplotlib.figure import Figure  # optional: only pages with pictures need it

    for name, plot in PLOTS.items():
        if plot.benchmark not in results:
            continue
        rows = results[plot.benchmark]["results"]["rows"]
        figure = Figure(figsize=(6, 4), layout="constrained")
        plot.paint(figure.subplots(), rows)
        path = IMAGES / name
        figure.savefig(root / path, dpi=120, metadata={"Description": digest(rows)})
        yield path


def digest(rows: dict[str, dict]) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
