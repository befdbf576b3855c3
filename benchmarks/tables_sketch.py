"""The section on sketches: how near they come to the exact decomposition, what they cost, a model that needs one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .text import list_table, number, spread_of, threads, wrapped

HEADER = (
    "Case/N/K",
    "Solver",
    "Width",
    "Worst of 16 singular values, %",
    "CKA of two seeds",
    "CKA with the exact",
    "Probe, % (the exact one's)",
    "Plain passes, each sweep",
)
FACTS = """Against the float64 Gram matrix of the same Fisher vectors, with two seeds. Times are over one plain forward
and backward pass of the same 512 rows, per-example gradients not formed; a whole solve also decomposes what it has
sketched.
"""


def table(rows: dict[str, dict]) -> str:
    """Return the table of compared solvers, and what the large model took."""
    compared = {key: row for key, row in rows.items() if key != "large"}
    parts = [FACTS, list_table(HEADER, cells(compared)), passes(compared)]
    if "large" in rows:
        parts.append(of_large(rows["large"]))
    return "\n".join(parts)


def cells(rows: dict[str, dict]) -> Iterator[tuple[str, ...]]:
    for key, row in rows.items():
        for solver in ("sketch", "sketch-refined"):
            found, seconds = row[solver], row["time_over_plain"][f"{solver}, by sweep"]
            yield (
                key,
                solver,
                "" if found["width"] is None else f"{found['width']:,}",
                both(found["largest_error_of_leading"]),
                f"{found['cka_of_two_seeds']:.4f}",
                f"{found['cka_with_the_exact']:.4f}",
                f"{both(found['probe'])} ({number(100 * row['probe_of_the_exact'])})",
                number(seconds["median"]) + spread_of(seconds),
            )


def both(shares: list[float]) -> str:
    return ", ".join(number(100 * share) for share in shares)


def passes(rows: dict[str, dict]) -> str:
    own = {key: row["time_over_plain"]["pass"] for key, row in rows.items() if "pass" in row["time_over_plain"]}
    each = ", ".join(f"{number(found['median'])}{spread_of(found)} ({key})" for key, found in own.items())
    return f"The sketching pass alone, in plain passes: {each}.\n"


def of_large(row: dict[str, Any]) -> str:
    return wrapped(
        f"A transformer of {row['n_parameters']:,} random parameters: {row['n_examples']} sequences of 128 tokens, "
        f"fitted and embedded with K = {row['n_components']}, took {number(row['seconds'])} s with "
        f"{threads(row['torch_threads'])} and {number(row['peak_gb'])} GB of memory in all."
    )
