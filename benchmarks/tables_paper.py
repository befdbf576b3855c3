"""Write the tables of docs/paper.rst, the paper's figures and tables made again, from benchmarks/results."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .bench_distillation_cifar10 import SEEDS, WAYS
from .bench_training import STUDENTS
from .plots import images_in_text
from .tables_companions import percent, spread
from .text import left_out, list_table, number, origin, spread_of, wrapped

NAMES = (
    "spectra",
    "growth",
    "eigenvalues",
    "inversion",
    "components",
    "rank",
    "table1",
    "semi_supervised",
    "ablations",
    "training",
)
NOTE = ".. Written by python -m benchmarks.tables from benchmarks/results; a test fails where the two differ.\n\n"
LEADING = (1, 8, 32, 128)
NEEDS = {"table1": ("sngan", "conv_vae"), "semi_supervised": ("sngan",)}  # models of our own that a table is about

Rows = dict[str, dict[str, Any]]


def render(results: dict[str, dict]) -> dict[str, str]:
    """Return the text of each table, by its path from the project's root."""
    return {f"docs/measured/paper_{name}.inc": NOTE + body(name, results) for name in NAMES}


def body(name: str, results: dict[str, dict]) -> str:
    rows = results.get(name, {}).get("results", {}).get("rows", {})
    table = TABLES[name](rows) if rows else ""
    if not table:
        return f"Not measured yet: ``python -m benchmarks {name}`` writes benchmarks/results/{name}.json.\n"
    parts = [*images_in_text(name), table, left_out(NEEDS.get(name, ()), results), origin(name, results[name])]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts if part)


def spectra_table(rows: Rows) -> str:
    header = ("Model", "State", "Fisher", "Parameters", *(f"Share of {n}" for n in LEADING), "Mean shift")

    def cells() -> Iterator[tuple[str, ...]]:
        for key, row in rows.items():
            shares = row["explained_variance"]
            leading = (number(shares[min(n, len(shares)) - 1]) for n in LEADING)
            yield (*key.split("/"), f"{row['n_parameters']:,}", *leading, number(row["mean_shift"]))

    reached = {key.split("/")[0]: row.get("reached", {}) for key, row in rows.items() if "/trained/" in key}
    shares = [f"{name} {100 * own['test_accuracy']:.1f} %" for name, own in reached.items() if "test_accuracy" in own]
    told = f"\nOf the test images the trained ones tell odd from even: {', '.join(shares)}.\n" if shares else ""
    return list_table(header, cells()) + told


def growth_tables(rows: Rows) -> str:
    by_rows, by_rank = ([own for own in rows.items() if f"/{kind}/" in own[0]] for kind in ("time", "rank"))
    times = [
        (
            key.split("/")[0],
            f"{row['n_examples']:,}",
            seconds_of(row["seconds"]),
            seconds_of(row["gram_seconds"]) if row["gram_seconds"] else "",
        )
        for key, row in sorted(by_rows, key=lambda own: (own[0].split("/")[0], own[1]["n_examples"]))
    ]
    ranks = [
        (
            key.split("/")[0],
            f"{row['n_examples']:,}",
            str(row["n_components"]),
            str(row["n_sweeps"]),
            seconds_of(row["seconds"]),
        )
        for key, row in sorted(by_rank, key=lambda own: (own[0].split("/")[0], own[1]["n_components"]))
    ]
    growth = list_table(("Model", "N", "Fit, K = 32, s", "Gram matrix and TruncatedSVD, s"), times)
    return f"{growth}\n{list_table(('Model', 'N', 'K', 'Sweeps', 'Fit, s'), ranks)}"


def seconds_of(found: dict[str, Any]) -> str:
    return number(found["median"]) + (spread_of(found) or " (once)")


def eigenvalue_table(rows: Rows) -> str:
    header = (
        "Solver",
        "Sweeps",
        "Fit, s",
        "Largest relative error of 128",
        "Median",
        *(f"Error of {n}" for n in LEADING),
    )

    def cells() -> Iterator[tuple[str, ...]]:
        for key, row in rows.items():
            errors = row["relative_errors"]
            each = (number(errors[min(n, len(errors)) - 1]) for n in LEADING)
            yield (
                key,
                str(row["n_sweeps"]),
                number(row["seconds"]),
                number(row["largest"]),
                number(row["median"]),
                *each,
            )

    shares = next(iter(rows.values()))["explained_variance"]
    explained = ", ".join(f"{number(shares[min(n, len(shares)) - 1])} ({n})" for n in LEADING)
    return f"{list_table(header, cells())}\nShare of the variance in the leading components: {explained}.\n"


def inversion_tables(rows: Rows) -> str:
    latent = ("Features", "R2 of h on other images of the generator")
    real = ("Way", "Squared pixel error", "Read as their digit, %")
    parts = []
    for d in sorted({row["d"] for row in rows.values()}):
        own = [row for row in rows.values() if row["d"] == d]
        r2 = [(name, spread([row["latent"][name]["r2"] for row in own], "{:.3f}")) for name in own[0]["latent"]]
        judged = []
        for name in own[0]["real"]:
            errors, labels = ([row["real"][name][kind] for row in own] for kind in ("pixel_error", "label_agreement"))
            judged.append((name, spread(errors, "{:.3f}"), percent(labels)))
        facts = (
            f"{d} features, {len(own)} seeds, fitted on {own[0]['n_train']:,} G(h), {own[0]['n_real']:,} real images:"
        )
        parts += [facts, list_table(latent, r2), list_table(real, judged)]
    return "\n".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


def components_table(rows: Rows) -> str:
    sets = list(next(iter(rows.values()))["purity"])
    header = ("Model/data", *sets, "Commonest of ten, the eight leading components")

    def cells() -> Iterator[tuple[str, ...]]:
        for key, row in rows.items():
            leading = [max(own.count(label) for label in own) for own in row["labels"]]
            pairs = ", ".join(f"{a} and {b}" for a, b in zip(leading[::2], leading[1::2], strict=True))
            yield (key, *(f"{100 * row['purity'][name]:.1f}" for name in sets), pairs)

    return list_table(header, cells())


def rank_table(rows: Rows) -> str:
    sets = next(row["accuracy"] for row in rows.values() if "accuracy" in row)
    header = ("Model/data", "Labels a class", *sets)
    return list_table(header, accuracies(rows, list(sets)))


def accuracies(rows: Rows, sets: list[str]) -> Iterator[tuple[str, ...]]:
    groups: dict[tuple[str, str], list[dict[str, float]]] = {}
    for key, row in rows.items():
        if "accuracy" in row:
            pair, budget, _ = key.rsplit("/", 2)
            groups.setdefault((pair, budget), []).append(row["accuracy"])
    for (pair, budget), own in groups.items():
        yield (pair, budget, *(percent([found[name] for found in own]) for name in sets))


def table1(rows: Rows) -> str:
    sets = list(next(row["accuracy"] for row in rows.values() if "accuracy" in row))
    header = ("Model/data", *sets)
    return list_table(header, ((pair, *found) for pair, _, *found in accuracies(rows, sets)))


def semi_supervised_table(rows: Rows) -> str:
    sets = list(next(row["accuracy"] for row in rows.values() if "accuracy" in row))
    return list_table(("Model/data", "Labels", *sets), accuracies(rows, sets))


def ablation_table(rows: Rows) -> str:
    header = ("Model/data", "Changed", "Share of 16, 64, 128", "Accuracy, 100 labels a class", "Against the defaults")

    def cells() -> Iterator[tuple[str, ...]]:
        for key, row in rows.items():
            if "explained_variance" not in row:
                continue
            pair, changed = key.rsplit("/", 1)
            own, plain = (draws(rows, f"{pair}/{name}/") for name in (changed, "defaults"))
            gains = [100 * (own[draw] - plain[draw]) for draw in own if draw in plain]
            shares = ", ".join(number(share) for share in row["explained_variance"].values())
            gain = "" if changed == "defaults" or not gains else spread(gains, "{:+.1f}")
            yield (pair, changed, shares, percent(list(own.values())) if own else "", gain)

    return list_table(header, cells())


def draws(rows: Rows, prefix: str) -> dict[str, float]:
    found = {key.removeprefix(prefix): row for key, row in rows.items() if key.startswith(prefix)}
    return {draw: next(iter(row["accuracy"].values())) for draw, row in found.items() if "accuracy" in row}


def training_table(rows: Rows) -> str:
    header = ("Model", "Parameters", "Batch", "Steps", "Seconds a step", "Hours in all", "Trained")

    def cells() -> Iterator[tuple[str, ...]]:
        for name, row in rows.items():
            counts = (f"{row[key]:,}" for key in ("n_parameters", "batch_size", "n_steps"))
            trained = "yes" if row["is_trained"] else "not run"
            yield (name, *counts, number(row["seconds_a_step"]), number(row["hours"]), trained)

    n_students = len(WAYS) * len(SEEDS)
    told = [
        wrapped(
            f"{student} is the student of {teacher}: the distillation trains it {n_students} times "
            f"({number(n_students * rows[student]['hours'])} hours), and without its teacher it is in no table."
        )
        for student, teacher in STUDENTS.items()
        if teacher in rows and not rows[teacher]["is_trained"]
    ]
    return "\n".join([list_table(header, cells()), *told])


TABLES = {
    "spectra": spectra_table,
    "growth": growth_tables,
    "eigenvalues": eigenvalue_table,
    "inversion": inversion_tables,
    "components": components_table,
    "rank": rank_table,
    "table1": table1,
    "semi_supervised": semi_supervised_table,
    "ablations": ablation_table,
    "training": training_table,
}
