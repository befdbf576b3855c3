"""Pictures of the benchmarks' pages; each holds a digest of the numbers that it shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import plots_paper
from .cases import DATA_ROOT

IMAGES = Path("docs") / "images"


@dataclass(frozen=True)
class Plot:
    """Drawn from the rows of one benchmark, and from images and models where ``needs_data``."""

    benchmark: str
    paint: Callable[[Any, dict[str, dict]], None]  # (figure, rows)
    alt: str
    size: tuple[float, float] = (6, 4)
    needs_data: bool = False


def scaling(figure, rows: dict[str, dict]) -> None:
    axes = figure.subplots()
    times = sorted((row for key, row in rows.items() if key.startswith("time/")), key=lambda row: row["n_examples"])
    gram = [row for row in times if row["gram_seconds"]]
    for label, shown, name in (("sknfk", times, "seconds"), ("Gram and TruncatedSVD", gram, "gram_seconds")):
        axes.loglog([row["n_examples"] for row in shown], [row[name]["median"] for row in shown], "o-", label=label)
    axes.set(xlabel="rows N", ylabel="seconds", title="LeNet-5, K = 32")
    axes.legend()


def estimates(figure, rows: dict[str, dict]) -> None:
    axes = figure.subplots()
    for number, (key, row) in enumerate(sorted(rows.items())):
        found = row["seeds"][0]
        sweeps = range(2, len(found["true"]) + 1)
        shown = [max(value, 1e-9) for value in found["true"][1:]]
        axes.semilogy(sweeps, shown, "o-", color=f"C{number}", label=key)
        axes.semilogy(sweeps, [max(value, 1e-9) for value in found["estimate"][1:]], "--", color=f"C{number}")
    axes.set(xlabel="sweeps", ylabel="share of the energy lost", title="True (solid) and estimated (dashed)")
    axes.legend(fontsize="small")


PLOTS = {
    "benchmarks-scaling.png": Plot("scaling", scaling, "Seconds of a fit against the number of rows"),
    "benchmarks-estimates.png": Plot("estimates", estimates, "True and estimated errors against the sweeps"),
    "paper-spectra.png": Plot("spectra", plots_paper.spectra, "Variance explained by the components", (12, 4)),
    "paper-growth.png": Plot("growth", plots_paper.growth, "Seconds against the rows and the components", (9, 4)),
    "paper-eigenvalues.png": Plot("eigenvalues", plots_paper.eigenvalues, "Errors of the eigenvalues", (7, 6)),
    "paper-inversion.png": Plot("inversion", plots_paper.inversion, "Images through h and G", (8, 5), True),
    "paper-components.png": Plot(
        "components", plots_paper.components("dcgan/fashion"), "Images of the components", (10, 6), True
    ),
    "paper-rank.png": Plot("rank", plots_paper.rank, "Accuracy against the components", (9, 4)),
}


def images_in_text(benchmark: str) -> list[str]:
    own = {name: plot for name, plot in PLOTS.items() if plot.benchmark == benchmark}
    return [f".. image:: images/{name}\n    :alt: {plot.alt}\n" for name, plot in own.items()]


def draw(results: dict[str, dict], root: Path) -> Iterator[Path]:
    """Write the picture of each benchmark that was run; one that shows data stays as it is where they are absent."""
    from matplotlib.figure import Figure  # optional: only pages with pictures need it

    for name, plot in PLOTS.items():
        if plot.benchmark not in results or (plot.needs_data and not DATA_ROOT.exists()):
            continue
        rows = results[plot.benchmark]["results"]["rows"]
        figure = Figure(figsize=plot.size, layout="constrained")
        plot.paint(figure, rows)
        path = IMAGES / name
        figure.savefig(root / path, dpi=120, metadata={"Description": digest(rows)})
        yield path


def digest(rows: dict[str, dict]) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
