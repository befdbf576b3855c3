"""The tables of families.json: what each feature set reaches on each pair, and when Fisher features pay."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

from scipy.stats import t as student

from .features import KERNEL
from .pairs import FAMILIES
from .text import list_table, number, section, wrapped

NFK, ACTIVATIONS, BOTH, PIXELS = "NFK-128", "activations", "activations + NFK-128", "pixels"
BUDGETS = ("10", "100", "all")
# The paper's Table 1: a rank of 128 loses nothing of note against the whole Fisher vector.
COMPRESSED = ("gan", "vae")
COMPRESSION_BOUND = -1.0  # points of accuracy, for the lower end of the interval
# What the summary compares: the first minus the second.
COMPARED = ((NFK, ACTIVATIONS), (NFK, PIXELS), (BOTH, ACTIVATIONS))

Rows = dict[str, dict[str, Any]]


def sections(rows: Rows) -> Iterator[str]:
    """Yield the summary, a section for each pair by family, and the verdict on compression."""
    pairs = [key for family in FAMILIES for key, row in rows.items() if row.get("family") == family]
    yield section("In short", summary(pairs, rows))
    for pair in pairs:
        yield section(title_of(rows[pair]), pair_table(pair, rows))
    yield section("Is a rank of 128 enough?", compression_table(rows))


def summary(pairs: list[str], rows: Rows) -> str:
    """Say on how many pairs NFK-128 wins, and list its differences on each, in points of accuracy."""
    header = ["Model/data", *(f"{one} minus {other}, {n}" for one, other in COMPARED for n in BUDGETS)]

    def cells() -> Iterator[list[str]]:
        for pair in pairs:
            found = [compared(pair, one, other, n, rows) for one, other in COMPARED for n in BUDGETS]
            own = f"{pair}, on its own task" if rows[pair]["on_task"] else pair
            yield [own, *("" if one is None else marked(one) for one in found)]

    sentences = [verdict(pairs, one, other, rows) for one, other in COMPARED]
    closing = "In bold: the interval leaves out zero."
    parts = [family_table(pairs, rows), "Differences in points of accuracy:\n", list_table(header, cells())]
    return "\n".join([*map(wrapped, sentences), *parts, wrapped(closing)])


def compared(pair: str, one: str, other: str, budget: str, rows: Rows) -> tuple[float, float, float] | None:
    draws = draws_of(pair, rows)[budget]
    return difference(draws, other, one) if len(draws) > 1 else None


def marked(found: tuple[float, float, float]) -> str:
    mean, low, high = found
    return f"**{mean:+.1f}**" if low > 0 or high < 0 else f"{mean:+.1f}"


def verdict(pairs: list[str], one: str, other: str, rows: Rows) -> str:
    """Count wins and losses: intervals above and below zero."""
    counts = []
    for budget in BUDGETS:
        wins, losses, n_pairs = counted(pairs, one, other, budget, rows)
        counts.append(f"{wins} wins and {losses} losses of {n_pairs} at {labels_text(budget)}")
    return f"**{one} against {other}**: {', '.join(counts)}."


def counted(pairs: list[str], one: str, other: str, budget: str, rows: Rows) -> tuple[int, int, int]:
    """Wins and losses of the first set, and the number of pairs that have such draws."""
    found = [own for pair in pairs if (own := compared(pair, one, other, budget, rows))]
    return sum(low > 0 for _, low, _ in found), sum(high < 0 for *_, high in found), len(found)


def family_table(pairs: list[str], rows: Rows) -> str:
    """Wins and losses by family, and by whether a classifier is asked what it was trained for."""
    groups: dict[str, list[str]] = {}
    for pair in pairs:
        on_task = ", on its own task" if rows[pair]["on_task"] else ""
        groups.setdefault(f"{rows[pair]['family']}{on_task}", []).append(pair)
    header = ["Wins and losses", "Pairs", *(f"{one} against {other}, {n}" for one, other in COMPARED for n in BUDGETS)]

    def cells() -> Iterator[list[str]]:
        for group, own in groups.items():
            found = [counted(own, one, other, n, rows) for one, other in COMPARED for n in BUDGETS]
            yield [group, str(len(own)), *(f"{wins} and {losses}" if n else "" for wins, losses, n in found)]

    return list_table(header, cells())


def labels_text(budget: str) -> str:
    return "all labels" if budget == "all" else f"{budget} a class"


def title_of(about: dict[str, Any]) -> str:
    return f"{about['family']}: {about['model']} on {about['dataset']}"


def pair_table(pair: str, rows: Rows) -> str:
    about, draws = rows[pair], draws_of(pair, rows)
    header = ["Features", "Dimension", *(f"Accuracy, {budget}" for budget in BUDGETS)]
    header += [f"NFK-128 minus it, {budget}" for budget in BUDGETS]
    text = list_table(header, (set_cells(name, about, draws) for name in about["dimensions"]))
    shares = ", ".join(f"{number(share)} at {rank}" for rank, share in about["explained_variance"].items())
    facts = (
        f"{about['n_base']:,} rows of base, {about['n_test']:,} of test; activations: {about['activations']}; "
        f"statistics of the {about['statistics']}; explained variance {shares}; weights {about['weights_sha256']}."
    )
    return f"{text}\n{facts}\n"


def set_cells(name: str, about: dict[str, Any], draws: dict[str, list[dict]]) -> Iterator[str]:
    yield from (name, f"{about['dimensions'][name]:,}")
    for budget in BUDGETS:
        values = [row["accuracy"][name] for row in draws[budget]]
        yield mean_and_deviation(values) if len(values) > 1 else ""
    for budget in BUDGETS:
        yield (
            ""
            if name == NFK or len(draws[budget]) < 2
            else "{:+.1f} ({:+.1f} to {:+.1f})".format(*difference(draws[budget], name))
        )


def draws_of(pair: str, rows: Rows) -> dict[str, list[dict]]:
    own = [row for key, row in rows.items() if key.startswith(f"{pair}/")]
    return {budget: [row for row in own if row["labels"] == budget] for budget in BUDGETS}


def difference(draws: list[dict], name: str, of: str = NFK) -> tuple[float, float, float]:
    """Mean of one set minus another in points of accuracy, and its 95 % interval over the draws."""
    values = [100 * (row["accuracy"][of] - row["accuracy"][name]) for row in draws]
    mean, error = statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5
    half = float(student.ppf(0.975, len(values) - 1)) * error
    return mean, mean - half, mean + half


def compression_table(rows: Rows) -> str:
    """NFK-128 against the whole Fisher vector on every GAN and VAE, with the verdict."""

    def cells() -> Iterator[tuple[str, ...]]:
        for pair, budget in compressed(rows):
            found = difference(draws_of(pair, rows)[budget], KERNEL)
            verdict = "met" if found[1] > COMPRESSION_BOUND else "not met"
            explained = number(rows[pair]["explained_variance"]["128"])
            yield pair, explained, budget, "{:+.2f} ({:+.2f} to {:+.2f})".format(*found), verdict

    header = ("Pair", "Variance explained by 128", "Labels a class", "NFK-128 minus the full Fisher vector")
    header = (*header, f"Above {COMPRESSION_BOUND:g} point")
    return list_table(header, cells())


def compressed(rows: Rows) -> list[tuple[str, str]]:
    """Pairs and budgets of which the claim speaks."""
    pairs = [key for key, row in rows.items() if row.get("family") in COMPRESSED]
    return [(pair, budget) for pair in pairs for budget in ("100", "all") if len(draws_of(pair, rows)[budget]) > 1]


def mean_and_deviation(values: list[float]) -> str:
    return f"{100 * statistics.fmean(values):.1f} ± {100 * statistics.stdev(values):.1f}"
