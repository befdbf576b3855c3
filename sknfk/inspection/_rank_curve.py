"""RankCurveDisplay: how many components a probe needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import is_classifier
from sklearn.model_selection import check_cv, cross_val_score
from sklearn.preprocessing import normalize
from sklearn.utils.validation import check_is_fitted

from ._plotting import as_numpy, draw_band, label_ticks, line_style, name_score, prepare_axes

__all__ = ["RankCurveDisplay"]


class RankCurveDisplay:
    """Score of a probe on the leading components, against their number.

    Parameters
    ----------
    ranks : array-like of shape (n_ranks,)
        Numbers of components.
    scores : array-like of shape (n_ranks, n_splits)
        Test scores, ticks first as in scikit-learn's ValidationCurveDisplay.
    score_name : str, default="Score"
        Name of the vertical axis.
    name : str or None, default=None
        Name of the curve in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the curve.
    figure_ : matplotlib Figure
        Their figure.
    line_ : matplotlib Artist
        Mean over the splits.
    band_ : matplotlib Artist
        One standard deviation about it.

    See Also
    --------
    SpectrumDisplay : The spectrum behind the components.
    sknfk.TakeComponents : The rank as a pipeline step, to search over.

    Examples
    --------
    >>> from sknfk.inspection import RankCurveDisplay
    >>> display = RankCurveDisplay(ranks=[1, 2], scores=[[0.2, 0.4], [0.7, 0.9]])
    >>> display.plot().line_.get_ydata()
    array([0.3, 0.8])
    """

    def __init__(
        self, *, ranks: ArrayLike, scores: ArrayLike, score_name: str = "Score", name: str | None = None
    ) -> None:
        self.ranks = ranks
        self.scores = scores
        self.score_name = score_name
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        nfk: Any,
        probe: Any,
        X,
        y,
        *,
        ranks: Sequence[int] | None = None,
        cv: Any = None,
        scoring: Any = None,
        ax: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> RankCurveDisplay:
        """Score a probe at several ranks of one factorisation.

        Columns nest, so the rank-k embedding is the first k columns of the fitted
        one. Unit length is per rank; rows of an embedding with
        ``normalize="l2"`` are brought back to it after the cut, which gives what
        ``nfk.truncate(k).transform`` gives, since the length they were divided by
        cancels. Rows are split by ``cv`` as in ``cross_val_score``: a held-out
        set is ``cv=[(train, test)]``, label draws are one such pair each, and the
        spread over the pairs is drawn. Cost: one pass over X for all ranks.

        Parameters
        ----------
        nfk : NFKTransformer
            Fitted; it is not fitted again. Any transformer whose columns nest
            serves, such as scikit-learn's PCA.
        probe : estimator
            Cloned and fitted for every rank and split.
        X : array-like of shape (n_samples, ...)
            Examples, with rows as in the transformer's ``fit``.
        y : array-like of shape (n_samples,)
            Targets of the probe.
        ranks : sequence of int or None, default=None
            Numbers of components; None is the powers of two up to
            ``n_components_``, and that.
        cv : int, splitter, iterable of (train, test) or None, default=None
            How rows are split; None is five folds, stratified for classifiers.
        scoring : str, callable or None, default=None
            The score; None is the probe's own.
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a new figure.
        name : str or None, default=None
            Name in the legend; None is the class of ``nfk``.
        **kwargs : dict
            Options of matplotlib's ``Axes.plot``.

        Returns
        -------
        RankCurveDisplay
            The display, drawn.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.decomposition import PCA
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sknfk.inspection import RankCurveDisplay
        >>> X, y = load_digits(return_X_y=True)
        >>> pca = PCA(8, random_state=0).fit(X / 16)
        >>> display = RankCurveDisplay.from_estimator(pca, LogisticRegression(), X / 16, y, cv=3)
        >>> display.ranks
        [1, 2, 4, 8]
        """
        check_is_fitted(nfk, "n_components_")
        ranks = _check_ranks(ranks, int(nfk.n_components_))
        embedding, y = as_numpy(nfk.transform(X)), as_numpy(y)  # (N, K)
        has_unit_rows = getattr(nfk, "normalize", None) == "l2"
        splits = list(check_cv(cv, y, classifier=is_classifier(probe)).split(embedding, y))
        scores = []
        for rank in ranks:
            leading = embedding[:, :rank]  # (N, rank)
            leading = normalize(leading) if has_unit_rows else leading
            scores.append(cross_val_score(probe, leading, y, cv=splits, scoring=scoring, error_score="raise"))
        display = cls(
            ranks=ranks,
            scores=np.stack(scores),
            score_name=name_score(probe, scoring),
            name=type(nfk).__name__ if name is None else name,
        )
        return display.plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> RankCurveDisplay:
        """Draw the curve, on a logarithmic axis of ranks.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a new figure.
        name : str or None, default=None
            Name in the legend; None is the display's own.
        **kwargs : dict
            Options of matplotlib's ``Axes.plot``.

        Returns
        -------
        RankCurveDisplay
            The display itself.
        """
        ax = prepare_axes(ax, f"{type(self).__name__}.plot")
        name = self.name if name is None else name
        ranks, style = np.asarray(self.ranks), line_style(ax, {"label": name, **kwargs})
        self.line_, self.band_ = draw_band(ax, ranks, np.asarray(self.scores), style)
        label_ticks(ax, base=2)
        ax.set(xlabel="Leading components", ylabel=self.score_name)
        if name is not None:
            ax.legend(fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _check_ranks(ranks: Sequence[int] | None, n_components: int) -> list[int]:
    """Return the ranks to try: those given, or powers of two and all components."""
    if ranks is None:
        return sorted({*(2**i for i in range(n_components.bit_length())), n_components})
    unfit = [rank for rank in ranks if not 1 <= rank <= n_components]
    if unfit:
        raise ValueError(
            f"`ranks` must be between 1 and the fitted n_components_ = {n_components}. Got {unfit}; "
            "leave them out or fit with more components."
        )
    return [int(rank) for rank in ranks]
