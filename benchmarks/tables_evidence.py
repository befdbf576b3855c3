"""Write docs/evidence.rst from benchmarks/results: when Fisher features pay, family by family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import tables_families
from .tables_families import difference, mean_and_deviation
from .text import list_table, number, origin, section

PAGE = "docs/evidence.rst"
NAMES = ("families", "densities", "choices", "ood", "language")

INTRODUCTION = """.. Written by python -m benchmarks.tables from benchmarks/results; a test fails where the two differ.

When it pays
============

The same probe for every feature set: logistic regression, its C in five values and its preprocessing (none, unit rows,
one global scale, StandardScaler) chosen by three inner folds on the labelled rows. What needs no labels is fitted on
the base, the same rows for every set; the test rows are the same too. *10* and *100* are labels a class, 10 draws;
*all* is four fifths of the base, five times, in the way that is chosen on the first of the five. A difference is
paired over the draws, with its 95 % interval: it says what another draw of labels would give on these test rows, not
on others. Where a model is probed on its own task, base and test are both the test images, on which it was not
trained: a draw is tested on those without a label, and each of the five chooses for itself.
"""


ANSWERS = ("embedding", "logsumexp")  # that are compared draw by draw

NOT_YET = """The tables of models and data sets are not complete yet: ``python -m benchmarks families`` goes on from the
rows in benchmarks/partial.
"""


def render(results: dict[str, dict]) -> str:
    """Return the text of the page."""
    parts = [INTRODUCTION]
    if "families" in results:
        parts += tables_families.sections(results["families"]["results"]["rows"])
        parts.append(origin("families", results["families"]))
    else:
        parts.append(NOT_YET)
    for name, (title, table) in SECTIONS.items():
        if name in results:
            parts += [section(title, table(results[name]["results"]["rows"])), origin(name, results[name])]
    return "\n".join(parts)


def choice_table(rows: dict[str, dict]) -> str:
    header = ("Question", "Answer", "On", "Explained at 16, 64, 128", "Mean shift", "Two seeds agree (CKA)")
    header = (*header, "Accuracy, 10 a class", "Accuracy, 100 a class")

    def cells() -> Iterator[tuple[str, ...]]:
        for key, row in rows.items():
            question, answer = key.rsplit("/", 1)
            yield (
                question,
                answer,
                row["pair"],
                ", ".join(number(share) for share in row["explained_variance"].values()),
                number(row["mean_shift"]),
                f"{row['agreement']:.3f}",
                *(mean_and_deviation(row["accuracy"][budget]["all"]) for budget in ("10", "100")),
            )

    return f"{list_table(header, cells())}\n{embedding_table(rows)}"


def embedding_table(rows: dict[str, dict]) -> str:
    """The length of a classifier's features against its free energy."""

    def cells() -> Iterator[tuple[str, ...]]:
        for pair in (row["pair"] for key, row in rows.items() if key.endswith("/logsumexp")):
            yield pair, *("{:+.1f} ({:+.1f} to {:+.1f})".format(*gain(rows, pair, n)) for n in ("10", "100"))

    return list_table(("Embedding minus logsumexp, points, on", "10 a class", "100 a class"), cells())


def gain(rows: dict[str, dict], pair: str, per_class: str) -> tuple[float, float, float]:
    """Accuracy of the embedding minus that of the free energy, with its interval."""
    answers = {name: rows[f"density of {pair}/{name}"]["accuracy"][per_class]["all"] for name in ANSWERS}
    draws = [{"accuracy": dict(zip(answers, values, strict=True))} for values in zip(*answers.values(), strict=True)]
    return difference(draws, "logsumexp", "embedding")


def density_table(rows: dict[str, dict]) -> str:
    header = ("Model", "Density", "MNIST", "Fashion-MNIST", "USPS", "Gradient error", "Explained at 16, 64, 128")
    header = (*header, "Error estimate", "Sweeps", "Fit, s")

    def cells() -> Iterator[tuple[str, ...]]:
        for name, row in rows.items():
            yield (
                name,
                f"``{row['density']}``",
                *(value_text(row["values"][dataset]) for dataset in ("mnist", "fashion", "usps")),
                number(row["gradient_error"]),
                ", ".join(number(share) for share in row["explained_variance"].values()),
                number(row["error_estimate"]),
                str(row["n_sweeps"]),
                number(row["fit_seconds"]),
            )

    return list_table(header, cells())


def value_text(value: dict[str, Any]) -> str:
    if value["figure"] is None:
        return f"{number(value['mean'])} {value['unit']}"
    n_first = value["n_first"]
    first = "" if n_first == value["n_rows"] else f"; of the first {n_first} rows {number(value['mean_of_first'])}"
    return f"{number(value['mean'])} {value['unit']}{first}, published {value['figure']:g}"


def ood_table(rows: dict[str, dict]) -> str:
    scores = list(next(iter(next(iter(rows.values()))["auroc"].values())))

    def cells() -> Iterator[tuple[str, ...]]:
        for name, row in rows.items():
            for dataset, found in row["auroc"].items():
                yield (name, dataset, *(auroc_text(found[score]) for score in scores))

    return list_table(("Model", "Against", *scores), cells())


def auroc_text(found: dict[str, float]) -> str:
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def language_table(rows: dict[str, dict]) -> str:
    about = rows["about"]
    budgets = sorted((key for key in rows if key != "about"), key=int)
    header = ("Features", "Dimension", *(f"Accuracy, {budget} a speaker" for budget in budgets))

    def cells() -> Iterator[tuple[str, ...]]:
        for name, dimension in about["dimensions"].items():
            found = (rows[budget]["accuracy"][name]["all"] for budget in budgets)
            yield (name, f"{dimension:,}", *map(mean_and_deviation, found))

    facts = (
        f"{about['n_speeches']:,} speeches of {len(about['speakers'])} speakers of tiny Shakespeare, read by a "
        f"causal transformer of {about['n_parameters']:,} parameters, trained on the text without a label; "
        f"{rows[budgets[0]]['n_draws']} draws of labels, tested on the speeches without one. Fit and transform took "
        f"{number(about['fit_and_transform_seconds'])} s, {about['n_sweeps']} sweeps."
    )
    return f"{facts}\n\n{list_table(header, cells())}"


SECTIONS = {
    "densities": ("The densities on these weights", density_table),
    "choices": ("What a choice is worth", choice_table),
    "ood": ("Out of distribution", ood_table),
    "language": ("Who speaks", language_table),
}
