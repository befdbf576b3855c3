"""Write the tables of docs/companions.rst from benchmarks/results."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from .bench_distillation import WAYS as STUDENTS
from .bench_gradient_features import WAYS
from .text import left_out, list_table, number, origin

NAMES = ("gradient_features", "distillation", "distillation_cifar10")
NOTE = ".. Written by python -m benchmarks.tables from benchmarks/results; a test fails where the two differ.\n\n"
NEEDS = {"distillation_cifar10": ("wrn40_2",)}  # models of our own that a table is about

# What Table 3 of Mu et al. (2020) says on every pair: the first is below the second.
ORDER = (
    ("activation", "gradient"),
    ("activation", "full"),
    ("full", "fine-tuned"),
    ("full, random weights", "full"),
)


def render(results: dict[str, dict]) -> dict[str, str]:
    """Return the text of each table, by its path from the project's root."""
    return {f"docs/measured/{name}.inc": NOTE + body(name, results) for name in NAMES}


def body(name: str, results: dict[str, dict]) -> str:
    if name not in results:
        reason = left_out(NEEDS.get(name, ()), results)
        return f"{reason}Not measured yet: ``python -m benchmarks {name}`` writes benchmarks/results/{name}.json.\n"
    return f"{TABLES[name](results[name]['results']['rows'])}\n{origin(name, results[name])}"


def gradient_table(rows: dict[str, dict]) -> str:
    """Accuracies, and whether the paper's order holds on the mean of the seeds."""
    pairs = sorted({key.rsplit("/", 1)[0] for key in rows})
    draws = {pair: [row for key, row in rows.items() if key.rsplit("/", 1)[0] == pair] for pair in pairs}
    values = {pair: {way: [row["accuracy"][way] for row in draws[pair]] for way in WAYS} for pair in pairs}

    def accuracies() -> Iterator[tuple[str, ...]]:
        for pair, own in draws.items():
            layer = f"{own[0]['layer']} ({own[0]['n_parameters']:,})"
            yield (pair, layer, str(len(own)), *(percent(values[pair][way]) for way in WAYS))

    def verdicts() -> Iterator[tuple[str, ...]]:
        for pair in pairs:
            yield (pair, *(verdict(values[pair][low], values[pair][high]) for low, high in ORDER))

    header = ("Backbone/data", "theta_2 (parameters)", "Seeds", *(way.capitalize() for way in WAYS))
    order = ("Backbone/data", *(f"{low} < {high}" for low, high in ORDER))
    return f"{list_table(header, accuracies())}\nDoes the paper's order hold?\n\n{list_table(order, verdicts())}"


def verdict(low: list[float], high: list[float]) -> str:
    """Say whether the second mean is above the first, by how much, and on how many seeds."""
    gains = [100 * (b - a) for a, b in zip(low, high, strict=True)]
    mean = statistics.fmean(gains)
    return f"{'yes' if mean > 0 else 'no'}: {mean:+.1f}, {sum(gain > 0 for gain in gains)} of {len(gains)} seeds"


def distillation_table(rows: dict[str, dict]) -> str:
    teacher = rows["teacher"]
    plain = ways_of(rows)["labels alone"]

    def cells() -> Iterator[tuple[str, ...]]:
        for way, own in ways_of(rows).items():
            gains = [100 * (own[seed]["accuracy"] - plain[seed]["accuracy"]) for seed in own if seed in plain]
            gain = "" if way == "labels alone" else spread(gains, "{:+.2f}")
            chosen = "; ".join(", ".join(f"{k}={v}" for k, v in row["chosen"].items()) for row in own.values())
            yield (way, percent([row["accuracy"] for row in own.values()]), gain, chosen)

    facts = (
        f"The teacher of {teacher['n_parameters']:,} parameters reads {100 * teacher['accuracy']:.1f} % of the "
        f"{teacher['n_test']:,} test images, the student has {teacher['n_parameters_of_the_student']:,}; "
        f"{teacher['n_train']:,} training rows, K = {teacher['n_components']}."
    )
    header = ("Student learns from", "Accuracy", "Above labels alone", "Chosen on validation rows, seed by seed")
    return f"{list_table(header, cells())}\n{facts}\n"


def ways_of(rows: dict[str, dict]) -> dict[str, dict[str, dict]]:
    found: dict[str, dict[str, dict]] = {way: {} for way in STUDENTS}
    for key, row in rows.items():
        if key != "teacher":
            way, seed = key.rsplit("/", 1)
            found[way][seed] = row
    return {way: own for way, own in found.items() if own}


def cifar10_table(rows: dict[str, dict]) -> str:
    ways = dict.fromkeys(key.rsplit("/", 1)[0] for key in rows if key != "teacher")

    def cells() -> Iterator[tuple[str, ...]]:
        yield ("teacher", "", percent([rows["teacher"]["accuracy"]]))
        for way in ways:
            own = [row for key, row in rows.items() if key.rsplit("/", 1)[0] == way]
            yield (way, *(percent([row[name] for row in own]) for name in ("validation_accuracy", "accuracy")))

    header = ("Student learns from", "Accuracy, validation rows", f"{number(1017)} test images")
    return list_table(header, cells())


def percent(values: list[float]) -> str:
    return spread([100 * value for value in values], "{:.1f}")


def spread(values: list[float], form: str) -> str:
    """Mean and standard deviation."""
    mean = form.format(statistics.fmean(values))
    return f"{mean} ± {form.replace('+', '').format(statistics.stdev(values))}" if len(values) > 1 else mean


TABLES = {
    "gradient_features": gradient_table,
    "distillation": distillation_table,
    "distillation_cifar10": cifar10_table,
}
