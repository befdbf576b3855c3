"""SpectrumDisplay: how many components the kernel needs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from ._plotting import as_numpy, line_style, prepare_axes

__all__ = ["SpectrumDisplay"]


class SpectrumDisplay:
    """Spectrum of a fitted embedding, against the component number.

    Parameters
    ----------
    explained_variance : array-like of shape (n_components,)
        Eigenvalues of the kernel over n_samples, descending.
    explained_variance_ratio : array-like of shape (n_components,)
        Their shares of the kernel's whole trace.
    name : str or None, default=None
        Name of the curve in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the curve.
    figure_ : matplotlib Figure
        Their figure.
    line_ : matplotlib Artist
        The curve.

    See Also
    --------
    RankCurveDisplay : What a probe makes of the leading components.

    Examples
    --------
    >>> from sknfk.inspection import SpectrumDisplay
    >>> display = SpectrumDisplay(explained_variance=[6, 3], explained_variance_ratio=[0.6, 0.3])
    >>> display.plot().line_.get_ydata()
    array([0.6, 0.9])
    """

    def __init__(
        self,
        *,
        explained_variance: ArrayLike,
        explained_variance_ratio: ArrayLike,
        name: str | None = None,
    ) -> None:
        self.explained_variance = explained_variance
        self.explained_variance_ratio = explained_variance_ratio
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        nfk: Any,
        *,
        kind: str = "explained",
        reference: Any = None,
        ax: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> SpectrumDisplay:
        """Draw the spectrum of a fitted transformer.

        Cost: none, it was found in ``fit``.

        Parameters
        ----------
        nfk : NFKTransformer
            Fitted. Whatever has ``explained_variance_`` and
            ``explained_variance_ratio_`` serves, such as scikit-learn's PCA.
        kind : {"explained", "eigenvalues"}, default="explained"
            See :meth:`plot`.
        reference : NFKTransformer, dict of str to NFKTransformer or None, default=None
            Others to draw beside it, such as one of the untrained model, by their names.
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a new figure.
        name : str or None, default=None
            Name in the legend; None is the class of ``nfk``.
        **kwargs : dict
            Options of matplotlib's ``Axes.plot``.

        Returns
        -------
        SpectrumDisplay
            The display, drawn.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.decomposition import PCA
        >>> from sknfk.inspection import SpectrumDisplay
        >>> pca = PCA(8).fit(load_digits().data)
        >>> SpectrumDisplay.from_estimator(pca, kind="eigenvalues").ax_.get_yscale()
        'log'
        """
        others = {} if reference is None else reference if isinstance(reference, dict) else {"reference": reference}
        check_is_fitted(nfk, "explained_variance_")
        for other in others.values():
            check_is_fitted(other, "explained_variance_")
        display = cls._of(nfk, type(nfk).__name__ if name is None else name).plot(ax, kind=kind, **kwargs)
        for title, other in others.items():
            cls._of(other, title).plot(display.ax_, kind=kind, **kwargs)
        return display

    @classmethod
    def _of(cls, nfk: Any, name: str) -> SpectrumDisplay:
        return cls(
            explained_variance=as_numpy(nfk.explained_variance_),
            explained_variance_ratio=as_numpy(nfk.explained_variance_ratio_),
            name=name,
        )

    def plot(
        self, ax: Any = None, *, name: str | None = None, kind: str = "explained", **kwargs: Any
    ) -> SpectrumDisplay:
        """Draw the spectrum.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a new figure.
        name : str or None, default=None
            Name in the legend; None is the display's own.
        kind : {"explained", "eigenvalues"}, default="explained"
            "explained" is the share of the trace that the leading components
            hold, from 0 to 1; "eigenvalues" are the eigenvalues themselves, on
            two logarithmic axes, where a power law is a straight line.
        **kwargs : dict
            Options of matplotlib's ``Axes.plot``.

        Returns
        -------
        SpectrumDisplay
            The display itself.
        """
        if kind not in ("explained", "eigenvalues"):
            raise ValueError(f"`kind` must be 'explained' or 'eigenvalues'. Got {kind!r}; choose one of them.")
        ax = prepare_axes(ax, f"{type(self).__name__}.plot")
        name = self.name if name is None else name
        is_share = kind == "explained"
        values = np.cumsum(self.explained_variance_ratio) if is_share else np.asarray(self.explained_variance)
        style = line_style(ax, {"label": name, **kwargs}, marker=False)
        (self.line_,) = ax.plot(np.arange(1, len(values) + 1), values, **style)
        if is_share:
            ax.set(xlabel="Leading components", ylabel="Share of the trace", ylim=(0, 1.02))
        else:
            ax.set(xlabel="Component", ylabel="Eigenvalue", xscale="log", yscale="log")
        if name is not None:
            ax.legend(fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self
