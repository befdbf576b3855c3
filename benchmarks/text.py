"""Words, numbers and tables of the generated pages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def section(title: str, text: str) -> str:
    return f"{title}\n{'-' * len(title)}\n\n{text}"


def origin(name: str, record: dict) -> str:
    rows = [row for row in record["results"]["rows"].values() if "device_name" in row]
    machines = sorted({f"{row['device_name']}, {threads(row['torch_threads'])}" for row in rows})
    commits = sorted({str(row["commit"]) for row in rows})
    versions = ", ".join(f"{package} {number}" for package, number in record["versions"].items())
    took = duration(record.get("wall_seconds") or sum(row["wall_seconds"] for row in rows))
    whole = f"python -m benchmarks {name} --device {record['device']}"
    commands = " and ".join(sorted({f"``{row.get('command', whole)}``" for row in rows}))
    text = f"From benchmarks/results/{name}.json, {commands}: {'; '.join(machines)}; {took}; "
    return wrapped(f"{text}commit {', '.join(commits)}; {versions}.")


def left_out(models: tuple[str, ...], results: dict[str, dict]) -> str:
    """Say which of these models are not trained, and how long it would take."""
    rows = results.get("training", {}).get("results", {}).get("rows", {})
    told = [
        wrapped(
            f"Not run: what needs {name}, whose training would take {number(row['hours'])} hours here "
            f"({number(row['seconds_a_step'])} s a step, ``{row['trained_by']}``)."
        )
        for name, row in rows.items()
        if name in models and not row["is_trained"]
    ]
    return "".join(f"{text}\n" for text in told)


def threads(n: int) -> str:
    return "1 thread" if n == 1 else f"{n} threads"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever is read at a glance."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} seconds"


def wrapped(text: str, width: int = 118) -> str:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line]) + "\n"


def list_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [".. list-table::", "    :header-rows: 1", ""]
    for row in [list(header), *map(list, rows)]:
        cells = [f" {cell}" if cell else "" for cell in row]
        lines += [f"    * -{cells[0]}", *(f"      -{cell}" for cell in cells[1:])]
    return "\n".join(lines) + "\n"


def number(value: float | None) -> str:
    """Three digits, as a person writes them."""
    if value is None:
        return ""
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread_of(found: dict[str, Any] | None) -> str:
    return f" ({number(found['q1'])} to {number(found['q3'])})" if found and len(found["all"]) > 1 else ""
