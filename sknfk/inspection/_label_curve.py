"""LabelCurveDisplay: how many labels a probe needs, by feature set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.utils import check_consistent_length, check_random_state

from ._draws import draw_labels
from ._plotting import as_numpy, draw_band, label_ticks, line_style, name_score, prepare_axes

__all__ = ["LabelCurveDisplay"]


class LabelCurveDisplay:
    """Test score against the labels per class, one line for each feature set.

    Parameters
    ----------
    n_labels : array-like of shape (n_counts,)
        Labels per class.
    scores : dict of str to array-like of shape (n_counts, n_draws)
        Test scores by the name of the feature set, ticks first as in
        scikit-learn's LearningCurveDisplay.
    score_name : str, default="Score"
        Name of the vertical axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Their figure.
    lines_ : dict of str to matplotlib Artist
        Means over the draws.
    bands_ : dict of str to matplotlib Artist
        One standard deviation about them.

    See Also
    --------
    draw_labels : The draws.

    Examples
    --------
    >>> from sknfk.inspection import LabelCurveDisplay
    >>> display = LabelCurveDisplay(n_labels=[1, 10], scores={"pixels": [[0.2, 0.4], [0.7, 0.9]]})
    >>> display.plot().lines_["pixels"].get_ydata()
    array([0.3, 0.8])
    """

    def __init__(self, *, n_labels: ArrayLike, scores: Mapping[str, ArrayLike], score_name: str = "Score") -> None:
        self.n_labels = n_labels
        self.scores = scores
        self.score_name = score_name

    @classmethod
    def from_features(
        cls,
        features: Mapping[str, tuple[ArrayLike, ArrayLike]],
        probe: Any,
        y_train: ArrayLike,
        y_test: ArrayLike,
        *,
        n_labels: Sequence[int | None] = (1, 3, 10, None),
        n_draws: int = 5,
        scoring: Any = None,
        random_state: int | RandomState | None = None,
        ax: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> LabelCurveDisplay:
        """Probe feature sets with few labels, the same ones for all sets.

        Labels are drawn by :func:`draw_labels` and nest. All rows are one draw: the
        probe is fitted on them once, and its score stands for every draw.

        Parameters
        ----------
        features : dict of str to pair of array-like
            Training and test rows, of shape (n_train, n_features) and (n_test,
            n_features), by the name of the feature set.
        probe : estimator or callable
            Cloned and fitted for every feature set, count and draw. Where the
            choice of it depends on the count (one label per class allows no inner
            cross-validation), a callable that takes an entry of ``n_labels`` and
            returns the estimator.
        y_train : array-like of shape (n_train,)
            Classes of the training rows, all known here.
        y_test : array-like of shape (n_test,)
            Classes of the test rows.
        n_labels : sequence of int or None, default=(1, 3, 10, None)
            Labels per class; None is all training rows, and is drawn at their
            mean number per class.
        n_draws : int, default=5
            Draws of labels for each count.
        scoring : str, callable or None, default=None
            The score; None is the probe's own.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a new figure.
        name : str or None, default=None
            Title of the legend.
        **kwargs : dict
            Options of matplotlib's ``Axes.plot``, for every line.

        Returns
        -------
        LabelCurveDisplay
            The display, drawn.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sknfk.inspection import LabelCurveDisplay
        >>> X, y = load_digits(return_X_y=True)
        >>> display = LabelCurveDisplay.from_features(
        ...     {"pixels": (X[:900], X[900:])}, LogisticRegression(), y[:900], y[900:],
        ...     n_labels=(1, 3), random_state=0,
        ... )
        >>> display.scores["pixels"].shape
        (2, 5)
        """
        y_train, y_test = as_numpy(y_train), as_numpy(y_test)
        seed = _seed(random_state)
        draws = [draw_labels(y_train, n, n_draws=1 if n is None else n_draws, random_state=seed) for n in n_labels]
        probes = [probe(n) if callable(probe) else probe for n in n_labels]
        scores = {}
        for title, (Z_train, Z_test) in features.items():
            check_consistent_length(Z_train, y_train)
            check_consistent_length(Z_test, y_test)
            train, test = (as_numpy(Z_train), y_train), (as_numpy(Z_test), y_test)
            by_count = [_score_draws(*task, train, test, scoring) for task in zip(probes, draws, strict=True)]
            scores[title] = np.stack([np.broadcast_to(values, n_draws) for values in by_count])
        mean_count = len(y_train) / len(np.unique(y_train))
        display = cls(
            n_labels=np.array([mean_count if n is None else n for n in n_labels]),
            scores=scores,
            score_name=name_score(probes[0], scoring),
        )
        return display.plot(ax, name=name, **kwargs)

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> LabelCurveDisplay:
        """Draw the curves, on a logarithmic axis of labels per class.

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
        LabelCurveDisplay
            The display itself.
        """
        ax = prepare_axes(ax, f"{type(self).__name__}.plot")
        n_labels = np.asarray(self.n_labels)
        self.lines_, self.bands_ = {}, {}
        for title, scores in self.scores.items():
            style = line_style(ax, {"label": title, **kwargs})
            self.lines_[title], self.bands_[title] = draw_band(ax, n_labels, np.asarray(scores), style)
        label_ticks(ax, base=10)
        ax.set(xlabel="Labels per class", ylabel=self.score_name)
        ax.legend(title=name, fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _seed(random_state: int | RandomState | None) -> int:
    """Return one seed, so that the draws of all counts come out of the same orders."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _score_draws(
    probe: Any,
    draws: list[np.ndarray],
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    scoring: Any,
) -> list[float]:
    """Return the test score of a probe for each draw of labelled training rows."""
    score = check_scoring(probe, scoring)
    (Z, y), scores = train, []
    for rows in draws:
        scores.append(score(clone(probe).fit(Z[rows], y[rows]), *test))
    return scores
