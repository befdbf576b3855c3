"""The README's table of what a fit takes, between its markers; the rest of the README is written by hand."""

from __future__ import annotations

from typing import Any

from .text import number

PAGE = "README.md"
START, END = "<!-- cost-table:start -->", "<!-- cost-table:end -->"
HEADER = ("model", "parameters", "examples", "components", "fit, seconds", "transform, seconds", "fit, training epochs")


def render(results: dict[str, dict], readme: str) -> str:
    """Return the README with the numbers of the JSON in place of those it has."""
    before, rest = readme.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n\n{cost_table(results)}\n\n{END}{after}"


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
