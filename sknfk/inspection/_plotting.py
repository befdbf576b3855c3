"""What the displays share: axes, line styles for every eye, bands and ticks."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import is_classifier
from torch import Tensor

from .._sklearn import to_host

__all__ = ["as_numpy", "draw_band", "label_ticks", "line_style", "name_score", "prepare_axes", "prepare_figure"]

# Okabe and Ito's colours, told apart by colour-blind eyes; their yellow is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":")


def prepare_axes(ax: Any, caller: str) -> Any:
    """Return the axes given, or those of a new figure; fail in words without matplotlib."""
    plt = _pyplot(caller)
    return plt.subplots(layout="constrained")[1] if ax is None else ax


def prepare_figure(figure: Any, caller: str, size: tuple[float, float]) -> Any:
    """Return the figure given, or a new one of a size in inches; fail in words without matplotlib."""
    plt = _pyplot(caller)
    return plt.figure(figsize=size, layout="constrained") if figure is None else figure


def _pyplot(caller: str) -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(f"{caller} needs matplotlib. Install it with `pip install sknfk[plot]`.") from error
    return plt


def line_style(ax: Any, given: dict[str, Any], *, marker: bool = True) -> dict[str, Any]:
    """Return the options of the next line: what was given, over what follows the lines already there."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    n = len(ax.lines)
    style: dict[str, Any] = {"color": COLOURS[n % len(COLOURS)], "linestyle": DASHES[n % len(DASHES)]}
    if marker:
        style |= {"marker": MARKERS[n % len(MARKERS)], "markersize": 4}
    return style | normalize_kwargs(given, Line2D)


def draw_band(ax: Any, x: np.ndarray, scores: np.ndarray, style: dict[str, Any]) -> tuple[Any, Any]:
    """Draw mean and standard deviation over the columns of scores (n_ticks, n_draws)."""
    mean, deviation = scores.mean(axis=1), scores.std(axis=1)
    (line,) = ax.plot(x, mean, **style)
    band = ax.fill_between(x, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.15, linewidth=0)
    return line, band


def label_ticks(ax: Any, *, base: int) -> None:
    """Put the numbers that the lines were drawn at on a logarithmic horizontal axis, and no others."""
    ticks = np.unique(np.concatenate([line.get_xdata() for line in ax.lines]))
    ax.set_xscale("log", base=base)
    ax.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    ax.set_xticks([], minor=True)


def name_score(probe: Any, scoring: Any) -> str:
    """Return what the vertical axis is called."""
    scoring = getattr(probe, "scoring", None) if scoring is None else scoring  # a search has its own
    if isinstance(scoring, str):
        return scoring.replace("_", " ").capitalize()
    return "Accuracy" if scoring is None and is_classifier(probe) else "Score"


def as_numpy(array: Any) -> np.ndarray:
    """Return an array of any namespace, on any device, or a table as numpy."""
    host = to_host(array)
    return host.detach().cpu().numpy() if isinstance(host, Tensor) else host
