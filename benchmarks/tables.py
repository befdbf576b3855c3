"""Write docs/benchmarks.rst, its pictures and the README's costs from results: python -m benchmarks.tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import (
    tables_companions,
    tables_evidence,
    tables_low_rank,
    tables_paper,
    tables_readme,
    tables_reliability,
    tables_sketch,
)
from .plots import draw, images_in_text
from .targets import targets
from .text import list_table, number, origin, section, spread_of, wrapped

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = "docs/benchmarks.rst"
NAMES = ("competitors", "limit", "scaling", "estimates", "subset", "cuda", "distributed", "sketch")

INTRODUCTION = """.. Written by python -m benchmarks.tables from benchmarks/results; a test fails where the two differ.

Benchmarks
==========

Every number here is read from the JSON that ``python -m benchmarks`` writes, with the environment it was measured in.
Each comparison is a process of its own. Methods take turns; times are medians with quartiles. A competitor's batch
and chunk sizes are tuned before it is timed, and the statistics, which it has no way to estimate, are given to it for
free. Errors are against a solve in float64: the *energy lost* is the share of the leading K eigenvalues' sum outside
the subspace found, the *kernel error* the relative Frobenius distance from the best kernel of rank K. Energies below
1e-6 are float32's rounding and count as equal. Our fit is timed at the first of the tolerances 1e-2, 1e-3, ... whose
lost energy is no larger than the competitor's.
"""


def main() -> None:
    results = load()
    for path, text in render(results).items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path)
    for path in draw(results, ROOT):
        print(path)


def load(folder: Path = RESULTS) -> dict[str, dict]:
    """The records of all benchmarks of these pages that were run."""
    own = (tables_evidence, tables_reliability, tables_low_rank, tables_companions, tables_paper)
    names = (*NAMES, *(name for page in own for name in page.NAMES))
    paths = {name: folder / f"{name}.json" for name in names}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def render(results: dict[str, dict]) -> dict[str, str]:
    """Return the text of each generated page, by its path from the project's root."""
    parts = [INTRODUCTION, section("Targets", target_table(results))]
    for name, (title, table) in SECTIONS.items():
        parts.append(section(title, body(name, table, results)))
    pages = {PAGE: "\n".join(parts)}
    if any(name in results for name in tables_evidence.NAMES):
        pages[tables_evidence.PAGE] = tables_evidence.render(results)
    if "reliability" in results:
        pages[tables_reliability.PAGE] = tables_reliability.render(results)
    readme = (ROOT / tables_readme.PAGE).read_text(encoding="utf-8")
    pages[tables_readme.PAGE] = tables_readme.render(results, readme)
    for page in (tables_low_rank, tables_companions, tables_paper):
        pages |= page.render(results)
    return pages


def body(name: str, table, results: dict[str, dict]) -> str:
    if name not in results:
        return f"Not measured yet: ``python -m benchmarks {name}`` writes benchmarks/results/{name}.json.\n"
    record = results[name]
    return "\n".join([table(record["results"]["rows"]), *images_in_text(name), origin(name, record)])


def target_table(results: dict[str, dict]) -> str:
    rows = []
    for target in targets():
        value = target.value(results)
        spread = spread_of(target.row_of(results)["ratio"]) if value and target.path == ("ratio", "median") else ""
        measured = "" if value is None else f"{number(value)}{spread}"
        rows.append((target.claim, target.key, f"{target.sense} {target.bound:g}", measured, target.verdict(results)))
    return list_table(("What", "Where: case/N/K", "Target", "Measured", "Verdict"), rows)


def competitor_table(rows: dict[str, dict]) -> str:
    header = ("Case", "N", "K", "Against", "Ours, s", "Theirs, s", "Ratio", "Energy lost: ours", "theirs")
    header = (*header, "Kernel error: ours", "theirs", "Products: ours", "theirs", "How theirs was timed")
    return list_table(header, (competitor_cells(row) for row in rows.values()))


def competitor_cells(row: dict[str, Any]) -> Iterator[str]:
    yield from (row["case"], f"{row['n_examples']:,}", str(row["n_components"]), row["competitor"])
    unavailable = row.get("skipped") or row.get("failed")
    if unavailable:
        yield from ([""] * 9 + [f"left out: {unavailable}"])
        return
    mine, theirs = row["ours"], row["theirs"]
    yield from (number(mine["seconds"]["median"]) + spread_of(mine["seconds"]), number(theirs["seconds"]["median"]))
    yield number(row["ratio"]["median"]) + spread_of(row["ratio"])
    for error in ("lost_energy", "kernel_error"):
        yield from (number(mine[error]), number(theirs[error]))
    yield from (mine["precision"], theirs["precision"], how_timed(theirs, row.get("handwritten")))


def how_timed(theirs: dict[str, Any], other: dict[str, Any] | None) -> str:
    text = "whole"
    if theirs["extrapolated"] and "columns_in_all" in theirs:
        text = f"{theirs['columns_timed']} of {theirs['columns_in_all']} columns, {theirs['rows_timed']:,} rows, scaled"
    elif theirs["extrapolated"]:
        text = f"{theirs['rows_timed']:,} rows, scaled by {theirs['scaled_by']}"
    if other:
        text += f"; plain loop ({other['settings']['form']}) {number(other['seconds']['median'])} s"
    return text + (f"; {theirs['error_note']}" if theirs.get("error_note") else "")


def limit_table(rows: dict[str, dict]) -> str:
    header = ("Case/N/K", "gradient_cache", "Sweeps", "Fit, s", "Plain pass, s", "Matmul, GFLOP/s", "Fit over limit")
    header = (*header, "the statistics' pass counted", "Plain passes", "Training epochs", "Transform over limit")

    def cells() -> Iterator[tuple[str, ...]]:
        for key, row in rows.items():
            for label, found in row["options"].items():
                yield (
                    key,
                    label,
                    str(found["n_sweeps"]),
                    number(found["fit_seconds"]["median"]) + spread_of(found["fit_seconds"]),
                    number(row["plain_seconds"]["median"]),
                    number(row["matmul_rate"]["best"] / 1e9),
                    *(number(found[name]) for name in ("over_limit", "over_limit_with_statistics")),
                    *(number(found[name]) for name in ("plain_epochs", "training_epochs", "transform_over_limit")),
                )

    return list_table(header, cells())


def scaling_table(rows: dict[str, dict]) -> str:
    times = sorted((row for key, row in rows.items() if key.startswith("time/")), key=lambda row: row["n_examples"])
    cells = []
    for row in times:
        gram = row["gram_seconds"]
        seconds = number(row["seconds"]["median"]) + spread_of(row["seconds"])
        cells.append((f"{row['n_examples']:,}", str(row["n_sweeps"]), seconds, number(gram["median"]) if gram else ""))
    text = list_table(("N", "Sweeps", "Fit, s", "Gram and TruncatedSVD, s"), cells)
    if "exponents" in rows:
        found = rows["exponents"]
        text += f"\nExponent in N: {number(found['exponent'])}; of the Gram matrix: {number(found['gram_exponent'])}.\n"
    memory = sorted((row for key, row in rows.items() if key.startswith("memory/")), key=lambda row: row["n_examples"])
    for row in memory:
        text += f"\nWorking memory at N = {row['n_examples']:,}: {row['working_bytes'] / 2**20:.0f} MiB.\n"
    return text


def estimate_table(rows: dict[str, dict]) -> str:
    header = ("Case/N/K", "Seed", "True error after sweeps 2, 3, ...", "Its estimate", "Ratios judged")

    def cells() -> Iterator[tuple[str, ...]]:
        for key, row in rows.items():
            for found in row["seeds"]:
                series = (found["true"][1:], found["estimate"][1:], found["judged"])
                yield (key, str(found["seed"]), *(", ".join(map(number, values)) for values in series))

    return list_table(header, cells())


def subset_table(rows: dict[str, dict]) -> str:
    header = ("Parameters", "Count", "Engine", "Sweeps", "Fit, s", "A pass, s", "Memory above the model's, MiB")

    def cells() -> Iterator[tuple[str, ...]]:
        for way, row in rows.items():
            yield (
                way,
                f"{row['n_parameters']:,}",
                row["engine"],
                str(row["n_sweeps"]),
                *(number(row[name]) for name in ("seconds", "seconds_per_pass", "peak_mib_above_the_model")),
            )

    row = next(iter(rows.values()))
    facts = f"A vision transformer of ViT-B's size, random weights; N = {row['n_examples']}, K = {row['n_components']}."
    return f"{facts}\n\n{list_table(header, cells())}"


def cuda_table(rows: dict[str, dict]) -> str:
    header = ("Case/N/K", "Sweeps", "Fit, s", "Transform, s", "Plain pass, s: TF32 off", "TF32 on", "Fit over limit")

    def cells() -> Iterator[tuple[str, ...]]:
        for key, row in sorted(
            rows.items(), key=lambda item: (item[1]["case"], item[1]["n_components"], item[1]["n_examples"])
        ):
            seconds = row["seconds"]
            yield (
                key,
                str(row["n_sweeps"]),
                number(seconds["fit"]["median"]) + spread_of(seconds["fit"]),
                *(number(seconds[name]["median"]) for name in ("transform", "plain, TF32 off", "plain, TF32 on")),
                number(row["over_limit"]),
            )

    return list_table(header, cells()) + "\nFits are with TF32 off: the library holds its products in full float32.\n"


def distributed_table(rows: dict[str, dict]) -> str:
    header = ("Case/N/K", "Blocks", "One process, s", "Two, s", "Ratio", "Predicted ratio on 4", "8", "64", "1,024")
    fits = {key: row for key, row in rows.items() if key.startswith("fit/")}

    def cells() -> Iterator[tuple[str, ...]]:
        for key, row in fits.items():
            yield (
                key.removeprefix("fit/"),
                row["blocks"],
                *(number(row["seconds"][n]["median"]) + spread_of(row["seconds"][n]) for n in ("one", "two")),
                number(row["ratio"]["median"]) + spread_of(row["ratio"]),
                *(number(row["predicted"][n]["ratio"]) for n in ("4", "8", "64", "1024")),
            )

    sent = rows["messages"]
    errors = sorted(abs(error) for error in sent["errors_of_unseen"])
    facts = wrapped(
        f"A message takes {number(1e6 * sent['latency'])} us, and {number(sent['bytes_per_second'] / 1e9)} GB a second "
        f"go between processes of this machine, fitted to {len(errors)} all-reduces. Of as many others that model is "
        f"wrong by {number(100 * errors[len(errors) // 2])} % in the median, {number(100 * errors[-1])} % at most. "
        "Predictions take the part of a fit that is shared out, which follows from its times on one and two processes, "
        "and these messages: " + "; ".join(parts_of(key, row) for key, row in fits.items()) + "."
    )
    return f"{list_table(header, cells())}\n{facts}"


def parts_of(key: str, row: dict[str, Any]) -> str:
    whole, over_rows = row["seconds"]["one"]["median"], row["seconds_over_rows"]
    return (
        f"of the {number(whole)} s of {key.removeprefix('fit/')} on one process {number(over_rows['one']['median'])} s "
        f"are visits to rows, {number(over_rows['two']['median'])} s on two, and "
        f"{number(row['predicted']['shared_seconds'])} s of all are shared out"
    )


SECTIONS = {
    "competitors": ("Against other ways to the same components", competitor_table),
    "limit": ("Distance from the limit", limit_table),
    "scaling": ("Growth with the number of rows: LeNet-5, K = 32", scaling_table),
    "estimates": ("The error estimate", estimate_table),
    "subset": ("A part of the parameters", subset_table),
    "cuda": ("On a GPU", cuda_table),
    "distributed": ("On several processes", distributed_table),
    "sketch": ("Sketches of Fisher vectors", tables_sketch.table),
}


if __name__ == "__main__":
    main()
