"""The pictures of docs/paper.rst, painted on a matplotlib figure from a benchmark's rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .bench_inversion import mlp_gan, pictures
from .pairs import PAIRS, images_of

Rows = dict[str, dict[str, Any]]


def spectra(figure, rows: Rows) -> None:
    """Figures 2 and 5: what the leading components hold together, a panel for each model."""
    models = sorted({key.split("/")[0] for key in rows}, key=lambda name: ("dcgan" in name, name))
    for ax, model in zip(panels(figure, 1, len(models)), models, strict=True):
        for key, row in rows.items():
            name, state, fisher = key.split("/")
            if name == model:
                shares = row["explained_variance"]
                style = "-" if state == "trained" else "--"
                color = "C0" if fisher == "diag" else "C1"
                divided = "divided by the Fisher" if fisher == "diag" else "not divided"
                ax.semilogx(range(1, len(shares) + 1), shares, style, color=color, label=f"{state}, {divided}")
        ax.set_title(model.replace(", ", ",\n"), fontsize="medium")
        ax.set(xlabel="components", ylim=(0, 1))
    figure.axes[0].set_ylabel("share of the variance")
    figure.axes[0].legend(fontsize="x-small")


def growth(figure, rows: Rows) -> None:
    """Figure 3: seconds against the number of rows and against the rank."""
    left, right = panels(figure, 1, 2, sharey=False)
    for number, model in enumerate(sorted({key.split("/")[0] for key in rows})):
        color = f"C{number}"
        times, ranks = (
            sorted((row[x], row) for key, row in rows.items() if key.startswith(f"{model}/{kind}/"))
            for kind, x in (("time", "n_examples"), ("rank", "n_components"))
        )
        medians = [row["seconds"]["median"] for _, row in times]
        left.loglog([N for N, _ in times], medians, "o-", color=color, label=f"{model}, sknfk")
        gram = [(N, row["gram_seconds"]["median"]) for N, row in times if row["gram_seconds"]]
        left.loglog(*zip(*gram, strict=True), "s--", color=color, label=f"{model}, Gram matrix")
        n_examples = ranks[0][1]["n_examples"]
        medians = [row["seconds"]["median"] for _, row in ranks]
        right.plot([K for K, _ in ranks], medians, "o-", color=color, label=f"{model}, N = {n_examples:,}")
    left.set_xscale("log", base=2)
    left.set(xlabel="rows N", ylabel="seconds", title="K = 32")
    right.set(xlabel="components K", ylabel="seconds", ylim=(0, None), title="sknfk")
    for ax in (left, right):
        ax.legend(fontsize="small")


def eigenvalues(figure, rows: Rows) -> None:
    """Figure 3, bottom right: the error of each eigenvalue, and what the leading ones explain."""
    errors, explained = panels(figure, 2, 1, sharey=False)
    for way, row in rows.items():
        found = row["relative_errors"]
        errors.semilogy(range(1, len(found) + 1), np.maximum(found, 1e-8), label=way)
    shares = next(iter(rows.values()))["explained_variance"]
    explained.plot(range(1, len(shares) + 1), shares, color="k")
    errors.set(ylabel="relative error of the eigenvalue", title="LeNet-5, 10,000 images")
    errors.legend(fontsize="x-small", ncols=3)
    explained.set(xlabel="component", ylabel="share of the variance", ylim=(0, 1))


def rank(figure, rows: Rows) -> None:
    """Figure 7: accuracy against the number of components, with the fewest labels and with the most."""
    drawn: dict[tuple[str, str], list[dict[str, float]]] = {}
    for key, row in rows.items():
        if "accuracy" in row:
            pair, budget, _ = key.rsplit("/", 2)
            drawn.setdefault((budget, pair), []).append(row["accuracy"])
    budgets = list(dict.fromkeys(budget for budget, _ in drawn))
    for ax, budget in zip(panels(figure, 1, 2), (budgets[0], budgets[-1]), strict=True):
        for (_, pair), own in ((key, own) for key, own in drawn.items() if key[0] == budget):
            ranks = [int(name.removeprefix("NFK-")) for name in own[0]]
            accuracies = 100 * np.array([list(found.values()) for found in own])
            deviation = accuracies.std(0, ddof=min(1, len(own) - 1))
            ax.errorbar(ranks, accuracies.mean(0), deviation, fmt="o-", ms=3, capsize=2, label=pair)
        ax.set_xscale("log", base=2)
        ax.set(xlabel="components K", title="all labels" if budget == "all" else f"{budget} labels a class")
    figure.axes[0].set_ylabel("accuracy, %")
    figure.axes[1].legend(fontsize="small")


def inversion(figure, rows: Rows) -> None:
    """Figure 4: real images, and what they become through h and G, or by principal components of as many."""
    row = max((row for row in rows.values() if "shown" in row), key=lambda row: row["d"])
    images = pictures(mlp_gan(), row)
    for ax, (way, own) in zip(panels(figure, len(images), 1), images.items(), strict=True):
        strip(ax, own.reshape(-1, 28, 28), way, (-1, 1))


def components(pair: str) -> Callable[[Any, Rows], None]:
    """Figure 6: the test images at both ends of the leading components."""

    def paint(figure, rows: Rows) -> None:
        X = images_of(PAIRS[pair].dataset, "test")[0]
        ends = rows[pair]["images"]
        for number, (ax, rows_of_end) in enumerate(zip(panels(figure, len(ends) // 2, 2), ends, strict=True)):
            end = "smallest" if number % 2 else "largest"
            strip(ax, X[rows_of_end], f"component {number // 2 + 1}, {end}", (0, 1))

    return paint


def panels(figure, n_rows: int, n_columns: int, sharey: bool = True) -> Iterator[Any]:
    return figure.subplots(n_rows, n_columns, squeeze=False, sharey=sharey, sharex=not sharey and n_rows > 1).flat


def strip(ax, images: np.ndarray, title: str, limits: tuple[int, int]) -> None:
    """Grey images (n, H, W) side by side."""
    ax.imshow(np.hstack(list(images)), cmap="gray", vmin=limits[0], vmax=limits[1])
    ax.set_title(title, fontsize="small", loc="left")
    ax.set_axis_off()
