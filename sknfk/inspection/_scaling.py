"""ScalingDisplay: how time grows with the number of examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ._plotting import line_style, prepare_axes

__all__ = ["ScalingDisplay"]


class ScalingDisplay:
    """Seconds against the number of examples, on two logarithmic axes.

    A power law is a straight line, its exponent the slope; Figure 3 of the NFK paper.

    Parameters
    ----------
    seconds : dict of str to mapping of int to float
        Seconds by the number of examples, by the name of the method.

    Attributes
    ----------
    exponents_ : dict of str to float
        Slope of each line by least squares; nan for fewer than two points.
    lines_ : dict of str to matplotlib Artist
        The lines.
    ax_ : matplotlib Axes
        Axes with the lines.
    figure_ : matplotlib Figure
        Their figure.

    Examples
    --------
    >>> from sknfk.inspection import ScalingDisplay
    >>> display = ScalingDisplay(seconds={"a": {100: 1.0, 1000: 10.0}, "b": {100: 1.0, 1000: 100.0}})
    >>> {name: round(slope, 3) for name, slope in display.plot().exponents_.items()}
    {'a': 1.0, 'b': 2.0}
    """

    def __init__(self, *, seconds: Mapping[str, Mapping[int, float]]) -> None:
        self.seconds = seconds

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], methods: Mapping[str, str], *, ax: Any = None, **kwargs: Any
    ) -> ScalingDisplay:
        """Draw a benchmark's record, as ``python -m benchmarks scaling`` writes it.

        Parameters
        ----------
        record : mapping
            The JSON: rows with "n_examples" and seconds.
        methods : mapping of str to str
            From the name in the legend to the key of the seconds in a row.
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a new figure.
        **kwargs : dict
            Options of matplotlib's ``Axes.plot``, for every line.

        Returns
        -------
        ScalingDisplay
            The display, drawn.

        Examples
        --------
        >>> from sknfk.inspection import ScalingDisplay
        >>> rows = {f"time/{n}": {"n_examples": n, "seconds": {"median": n / 100}} for n in (100, 200)}
        >>> display = ScalingDisplay.from_record({"results": {"rows": rows}}, {"ours": "seconds"})
        >>> display.seconds
        {'ours': {100: 1.0, 200: 2.0}}
        """
        rows = sorted(
            (row for row in record["results"]["rows"].values() if "n_examples" in row),
            key=lambda row: row["n_examples"],
        )
        seconds = {
            name: {row["n_examples"]: row[key]["median"] for row in rows if row.get(key)}
            for name, key in methods.items()
        }
        return cls(seconds=seconds).plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> ScalingDisplay:
        """Draw the lines.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a new figure.
        name : str or None, default=None
            Title of the legend.
        **kwargs : dict
            Options of matplotlib's ``Axes.plot``, for every line.

        Returns
        -------
        ScalingDisplay
            The display itself.
        """
        ax = prepare_axes(ax, f"{type(self).__name__}.plot")
        self.lines_, self.exponents_ = {}, {}
        for title, found in self.seconds.items():
            n, t = np.array(sorted(found.items()), dtype=float).T
            self.exponents_[title] = exponent(n, t)
            label = title if np.isnan(self.exponents_[title]) else f"{title}: N^{self.exponents_[title]:.2f}"
            (self.lines_[title],) = ax.plot(n, t, **line_style(ax, {"label": label, **kwargs}))
        ax.set(xlabel="Examples", ylabel="Seconds", xscale="log", yscale="log")
        ax.legend(title=name, fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def exponent(n: ArrayLike, seconds: ArrayLike) -> float:
    """Return the slope of log seconds over log n."""
    if len(np.asarray(n)) < 2:
        return float("nan")
    return float(np.polyfit(np.log(n), np.log(seconds), 1)[0])
