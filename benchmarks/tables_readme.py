"""What the README has from benchmarks, between its markers; the rest of it is written by hand."""

from __future__ import annotations

from typing import Any

from . import tables_families
from .text import number

PAGE = "README.md"
HEADER = ("model", "parameters", "examples", "components", "fit, seconds", "transform, seconds", "fit, training epochs")


def render(results: dict[str, dict], readme: str) -> str:
    """Return the README with the numbers of the JSON in place of those it has."""
    if "limit" in results:
        readme = replaced(readme, "cost-table", cost_table(results))
    if "families" in results:
        readme = replaced(readme, "evidence", evidence(results["families"]["results"]["rows"]))
    return readme


def replaced(readme: str, name: str, text: str) -> str:
    """Return the README with this text between its markers of that name."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, rest = readme.split(start)
    _, after = rest.split(end)
    return f"{before}{start}\n\n{text}\n\n{end}{after}"


def evidence(rows: tables_families.Rows) -> str:
    """How often Fisher features win and lose, over all pairs of a model and a data set."""
    pairs = [key for key, row in rows.items() if "family" in row]
    models = {rows[pair]["model"] for pair in pairs}
    verdicts = (f"* {tables_families.verdict(pairs, *sets, rows)}" for sets in tables_families.COMPARED)
    heading = f"On {len(pairs)} pairs of one of {len(models)} models and a data set:"
    return "\n".join([heading, "", *verdicts])


def cost_table(results: dict[str, dict]) -> str:
    """One row for each model: the most examples and components that were measured."""
    measured = results["limit"]["results"]["rows"].values()
    largest: dict[str, dict[str, Any]] = {}
    for row in sorted(measured, key=lambda row: (row["n_examples"], row["n_components"])):
        largest[row["case"]] = row
    rows = [HEADER, ("---", *["---:"] * (len(HEADER) - 1))]
    rows += [cells(row) for row in sorted(largest.values(), key=lambda row: row["n_parameters"])]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    found = row["options"]["auto"]
    sizes = (f"{row[name]:,}" for name in ("n_parameters", "n_examples", "n_components"))
    seconds = (number(found[name]["median"]) for name in ("fit_seconds", "transform_seconds"))
    return (row["case"], *sizes, *seconds, number(found["training_epochs"]))
