"""Write the tables of docs/low_rank.rst and docs/retrieval.rst from benchmarks/results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

from .text import list_table, number, origin

NAMES = ("low_rank", "retrieval")
NOTE = ".. Written by python -m benchmarks.tables from benchmarks/results; a test fails where the two differ.\n\n"


def render(results: dict[str, dict]) -> dict[str, str]:
    """Return the text of each part of a page, by its path from the project's root."""
    return {f"docs/measured/{part}.inc": NOTE + body(part, results) for part in PARTS}


def body(part: str, results: dict[str, dict]) -> str:
    name, table = PARTS[part]
    if name not in results:
        return f"Not measured yet: ``python -m benchmarks {name}`` writes benchmarks/results/{name}.json.\n"
    return f"{table(results[name]['results']['rows'])}\n{origin(name, results[name])}"


def rank_table(rows: dict[str, dict]) -> str:
    header = ("Model", "Layer", "Singular values", "Effective rank", "Stable rank", "Share of 10 components")

    def cells() -> Iterator[tuple[str, ...]]:
        for key, row in of_kind("rank", rows):
            for layer, found in row["layers"].items():
                yield (key, layer, f"{found['n_values']:,}", *measures(found))

    return list_table(header, cells())


def trained_table(rows: dict[str, dict]) -> str:
    header = ("Data", "Network", "Accuracy", "Effective rank", "Stable rank", "Share of 10 components")

    def cells() -> Iterator[tuple[str, ...]]:
        for dataset, way, own in by_network(rows):
            ranks = (
                spread(own, lambda found, row, name=name: found["layers"][row["layer"]][name])
                for name in ("effective_rank", "stable_rank", "share_of_10")
            )
            yield (dataset, way, spread(own, lambda found, row: found["accuracy"]), *ranks)

    return list_table(header, cells())


def compression_table(rows: dict[str, dict]) -> str:
    return by_key(rows, "compressed", "r = {}")


def noise_table(rows: dict[str, dict]) -> str:
    return by_key(rows, "noise", "p = {}")


def attack_table(rows: dict[str, dict]) -> str:
    header = ("Data", "Network", "Bound", "PGD-20", "Transfer", "Queries", "Masked, of the seeds")

    def cells() -> Iterator[tuple[str, ...]]:
        for dataset, way, own in by_network(rows):
            for eps in own[0][0]["attacks"]:
                under = (
                    spread(own, lambda found, row, eps=eps, name=name: found["attacks"][eps][name])
                    if name in own[0][0]["attacks"][eps]
                    else ""
                    for name in ("pgd", "transfer", "query")
                )
                masked = sum(found["attacks"][eps]["masked"] for found, _ in own)
                yield dataset, way, "none" if float(eps) >= 1 else eps, *under, f"{masked} of {len(own)}"

    return list_table(header, cells())


def by_key(rows: dict[str, dict], name: str, title: str) -> str:
    networks = list(by_network(rows))
    keys = list(networks[0][2][0][0][name]) if networks else []

    def cells() -> Iterator[tuple[str, ...]]:
        for dataset, way, own in networks:
            yield dataset, way, *(spread(own, lambda found, row, key=key: found[name][key]) for key in keys)

    return list_table(("Data", "Network", *map(title.format, keys)), cells())


def by_network(rows: dict[str, dict]) -> Iterator[tuple[str, str, list[tuple[dict, dict]]]]:
    """Yield data set, network, and what was found of it with its row, for each seed."""
    trained = of_kind("trained", rows)
    for dataset in dict.fromkeys(key.split("/")[0] for key, _ in trained):
        own = [row for key, row in trained if key.split("/")[0] == dataset]
        for way in own[0]["networks"]:
            yield dataset, way, [(row["networks"][way], row) for row in own]


def of_kind(kind: str, rows: dict[str, dict]) -> list[tuple[str, dict]]:
    return [(key.removeprefix(f"{kind}/"), row) for key, row in rows.items() if key.startswith(f"{kind}/")]


def measures(found: dict[str, float]) -> tuple[str, ...]:
    return tuple(number(found[name]) for name in ("effective_rank", "stable_rank", "share_of_10"))


def spread(own: list[tuple[dict, dict]], value: Callable[[dict, dict], float]) -> str:
    values = [value(found, row) for found, row in own]
    mean = number(statistics.fmean(values))
    return f"{mean} ± {number(statistics.stdev(values))}" if len(values) > 1 else mean


# ------------------------------------------------------------------ retrieval


def map_table(rows: dict[str, dict]) -> str:
    found = of_kind("map", rows)
    sets = list(found[0][1]["sets"]) if found else []

    def cells() -> Iterator[tuple[str, ...]]:
        for key, row in found:
            yield key, *(map_text(row["sets"][name]) for name in sets)

    return list_table(("Model/data", *sets), cells())


def map_text(found: dict[str, float]) -> str:
    return f"{found['map']:.3f} ± {found['standard_error']:.3f}; {found['of_ten']:.3f}"


def distance_table(rows: dict[str, dict]) -> str:
    text = ""
    for _, row in of_kind("distance", rows):
        cells = (
            (name, number(found["to_the_generator"]), number(found["to_mnist"]))
            for name, found in row["similarity"].items()
        )
        text += list_table(("Set", "Similarity to the generator", "to MNIST test images"), cells)
        apart = ", ".join(f"{name} {number(value)}" for name, value in row["mean_distance"].items())
        text += f"\nSets of {row['n_rows']} images. Mean distance of two MNIST test images: {apart}.\n"
    return text


def influence_table(rows: dict[str, dict]) -> str:
    found = of_kind("influence", rows)
    predictors = list(next(iter(found[0][1]["spearman"].values()))) if found else []

    def cells() -> Iterator[tuple[str, ...]]:
        for key, row in found:
            for truth, own in row["spearman"].items():
                predicted = (f"{own[p]['mean']:.2f} ± {own[p]['standard_error']:.2f}" for p in predictors)
                yield key, truth, *predicted, number(row["ridge_error"])

    header = ("Model/data", "The probe sees", *(f"From {p}" for p in predictors), "Leave one out, kernel ridge: error")
    return list_table(header, cells())


PARTS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "ranks": ("low_rank", rank_table),
    "trained": ("low_rank", trained_table),
    "compression": ("low_rank", compression_table),
    "noise": ("low_rank", noise_table),
    "attacks": ("low_rank", attack_table),
    "neighbours": ("retrieval", map_table),
    "sets": ("retrieval", distance_table),
    "influence": ("retrieval", influence_table),
}
