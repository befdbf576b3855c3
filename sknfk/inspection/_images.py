"""Displays of examples as images: what components and neighbourhoods look like."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from ._plotting import as_numpy, prepare_figure

__all__ = ["ComponentExamplesDisplay", "NeighborsDisplay"]

# Okabe and Ito's blue and vermilion, told apart by colour-blind eyes; the line is dashed too where classes differ.
SAME, OTHER = "#0072B2", "#D55E00"


class ComponentExamplesDisplay:
    """The examples with the largest projections on each component.

    A row for each component, from the largest projection on; Figure 6 of the NFK
    paper [1]_.

    Parameters
    ----------
    images : array-like of shape (n_samples, height, width) or (n_samples, height, width, 3)
        What an example looks like.
    projections : array-like of shape (n_samples, n_components)
        The embedding.
    shares : array-like of shape (n_components,) or None, default=None
        Share of the trace of each component, for the labels.

    Attributes
    ----------
    rows_ : ndarray of shape (n_components, n_examples)
        Which examples are shown.
    axes_ : ndarray of matplotlib Axes of shape (n_components, n_examples)
        One for each image.
    figure_ : matplotlib Figure
        Their figure.

    References
    ----------
    .. [1] Zhang, Zhai, Littwin, Susskind. "Learning Representation from Neural
       Fisher Kernel with Low-rank Approximation", ICLR 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from sknfk.inspection import ComponentExamplesDisplay
    >>> images = np.arange(4 * 9).reshape(4, 3, 3)
    >>> display = ComponentExamplesDisplay(images=images, projections=[[1.0], [3.0], [0.0], [2.0]])
    >>> display.plot(n_components=1, n_examples=3).rows_
    array([[1, 3, 0]])
    """

    def __init__(self, *, images: ArrayLike, projections: ArrayLike, shares: ArrayLike | None = None) -> None:
        self.images = images
        self.projections = projections
        self.shares = shares

    @classmethod
    def from_estimator(
        cls,
        nfk: Any,
        X: Any,
        *,
        images: ArrayLike | None = None,
        n_components: int = 8,
        n_examples: int = 8,
        sign: int = 1,
        figure: Any = None,
        **kwargs: Any,
    ) -> ComponentExamplesDisplay:
        """Embed X and draw the examples with the largest projections.

        Cost: one pass over X.

        Parameters
        ----------
        nfk : transformer
            Fitted, with ``explained_variance_ratio_``.
        X : array-like of shape (n_samples, ...)
            Examples.
        images : array-like or None, default=None
            What they look like; None takes X, whose rows must then be images.
        n_components : int, default=8
            Components to draw, from the first.
        n_examples : int, default=8
            Examples of each.
        sign : {1, -1}, default=1
            -1 draws the most negative projections: a component's sign has no meaning.
        figure : matplotlib Figure or None, default=None
            Where to draw; None makes a new one.
        **kwargs : dict
            Options of matplotlib's ``Axes.imshow``.

        Returns
        -------
        ComponentExamplesDisplay
            The display, drawn.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.decomposition import PCA
        >>> from sknfk.inspection import ComponentExamplesDisplay
        >>> digits = load_digits()
        >>> pca = PCA(3).fit(digits.data)
        >>> display = ComponentExamplesDisplay.from_estimator(
        ...     pca, digits.data, images=digits.images, n_components=3, n_examples=5
        ... )
        >>> display.axes_.shape
        (3, 5)
        """
        check_is_fitted(nfk, "explained_variance_ratio_")
        display = cls(
            images=X if images is None else images,
            projections=as_numpy(nfk.transform(X)),
            shares=as_numpy(nfk.explained_variance_ratio_),
        )
        return display.plot(figure, n_components=n_components, n_examples=n_examples, sign=sign, **kwargs)

    def plot(
        self, figure: Any = None, *, n_components: int = 8, n_examples: int = 8, sign: int = 1, **kwargs: Any
    ) -> ComponentExamplesDisplay:
        """Draw the images.

        Parameters
        ----------
        figure : matplotlib Figure or None, default=None
            Where to draw; None makes a new one.
        n_components : int, default=8
            Components to draw, from the first.
        n_examples : int, default=8
            Examples of each.
        sign : {1, -1}, default=1
            Whether the largest projections or the most negative ones.
        **kwargs : dict
            Options of matplotlib's ``Axes.imshow``.

        Returns
        -------
        ComponentExamplesDisplay
            The display itself.
        """
        if sign not in (1, -1):
            raise ValueError(f"`sign` must be 1 or -1. Got {sign!r}; choose one of them.")
        images, projections = as_images(self.images), as_numpy(self.projections)
        K, n_shown = min(n_components, projections.shape[1]), min(n_examples, len(images))
        self.rows_ = np.argsort(-sign * projections[:, :K], axis=0, kind="stable")[:n_shown].T
        self.figure_, self.axes_ = image_grid(figure, K, n_shown, f"{type(self).__name__}.plot")
        for k, (axes, rows) in enumerate(zip(self.axes_, self.rows_, strict=True)):
            for ax, row in zip(axes, rows, strict=True):
                draw_image(ax, images[row], kwargs)
            share = "" if self.shares is None else f"\n{100 * np.asarray(self.shares)[k]:.1f} %"
            axes[0].set_ylabel(f"{k + 1}{share}", rotation=0, ha="right", va="center", fontsize="small")
        self.figure_.supylabel(
            "Component" if self.shares is None else "Component, share of the trace", fontsize="small"
        )
        return self


class NeighborsDisplay:
    """Examples and their nearest neighbours among others, by the angle between rows.

    Parameters
    ----------
    query_images, images : array-like of shape (n, height, width) or (n, height, width, 3)
        What queries and the others look like.
    neighbors : array-like of shape (n_queries, n_neighbors)
        Which of the others are nearest, from the nearest on.
    query_labels, labels : array-like or None, default=None
        Classes: neighbours of another class than the query's get a dashed frame.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_queries, 1 + n_neighbors)
        One for each image, the query first.
    figure_ : matplotlib Figure
        Their figure.

    Examples
    --------
    >>> import numpy as np
    >>> from sknfk.inspection import NeighborsDisplay
    >>> images = np.arange(4 * 9).reshape(4, 3, 3)
    >>> display = NeighborsDisplay(query_images=images[:1], images=images, neighbors=[[2, 3]])
    >>> display.plot().axes_.shape
    (1, 3)
    """

    def __init__(
        self,
        *,
        query_images: ArrayLike,
        images: ArrayLike,
        neighbors: ArrayLike,
        query_labels: ArrayLike | None = None,
        labels: ArrayLike | None = None,
    ) -> None:
        self.query_images = query_images
        self.images = images
        self.neighbors = neighbors
        self.query_labels = query_labels
        self.labels = labels

    @classmethod
    def from_embeddings(
        cls,
        queries: ArrayLike,
        others: ArrayLike,
        query_images: ArrayLike,
        images: ArrayLike,
        *,
        query_labels: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        n_neighbors: int = 8,
        metric: str = "cosine",
        figure: Any = None,
        **kwargs: Any,
    ) -> NeighborsDisplay:
        """Find the nearest neighbours in an embedding and draw them.

        Parameters
        ----------
        queries : array-like of shape (n_queries, n_components)
            Embedded queries.
        others : array-like of shape (n_samples, n_components)
            Embedded others, which the neighbours come from.
        query_images, images : array-like
            What they look like.
        query_labels, labels : array-like or None, default=None
            Their classes.
        n_neighbors : int, default=8
            Neighbours of each query.
        metric : str, default="cosine"
            A metric of ``sklearn.neighbors``.
        figure : matplotlib Figure or None, default=None
            Where to draw; None makes a new one.
        **kwargs : dict
            Options of matplotlib's ``Axes.imshow``.

        Returns
        -------
        NeighborsDisplay
            The display, drawn.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from sknfk.inspection import NeighborsDisplay
        >>> digits = load_digits()
        >>> X, images = digits.data, digits.images
        >>> display = NeighborsDisplay.from_embeddings(X[:2], X[2:], images[:2], images[2:], n_neighbors=3)
        >>> display.neighbors.shape
        (2, 3)
        """
        index = NearestNeighbors(n_neighbors=n_neighbors, metric=metric).fit(as_numpy(others))
        neighbors = index.kneighbors(as_numpy(queries), return_distance=False)
        display = cls(
            query_images=query_images,
            images=images,
            neighbors=neighbors,
            query_labels=query_labels,
            labels=labels,
        )
        return display.plot(figure, **kwargs)

    def plot(self, figure: Any = None, **kwargs: Any) -> NeighborsDisplay:
        """Draw the images.

        Parameters
        ----------
        figure : matplotlib Figure or None, default=None
            Where to draw; None makes a new one.
        **kwargs : dict
            Options of matplotlib's ``Axes.imshow``.

        Returns
        -------
        NeighborsDisplay
            The display itself.
        """
        neighbors = np.asarray(self.neighbors)
        queries, images = as_images(self.query_images), as_images(self.images)
        self.figure_, self.axes_ = image_grid(
            figure, len(neighbors), 1 + neighbors.shape[1], f"{type(self).__name__}.plot"
        )
        for number, (axes, own) in enumerate(zip(self.axes_, neighbors, strict=True)):
            draw_image(axes[0], queries[number], kwargs)
            for ax, row in zip(axes[1:], own, strict=True):
                draw_image(ax, images[row], kwargs)
                if self.labels is not None and self.query_labels is not None:
                    is_same = np.asarray(self.labels)[row] == np.asarray(self.query_labels)[number]
                    frame(ax, SAME if is_same else OTHER, "-" if is_same else "--")
        self.axes_[0, 0].set_title("query", fontsize="small")
        self.axes_[0, 1].set_title("nearest", fontsize="small")
        return self


def as_images(images: Any) -> np.ndarray:
    """Return images as (N, height, width) or (N, height, width, 3 or 4); axes of length one are dropped.

    Raises
    ------
    ValueError
        If rows are no images.
    """
    found = as_numpy(images)
    if found.ndim == 4 and found.shape[1] in (1, 3, 4) and found.shape[3] not in (1, 3, 4):
        found = np.moveaxis(found, 1, 3)  # as torch has them
    if found.ndim == 4 and found.shape[3] == 1:
        found = found[..., 0]
    if found.ndim == 3 or (found.ndim == 4 and found.shape[3] in (3, 4)):
        return found
    raise ValueError(
        "`images` must be of shape (n, height, width), (n, height, width, 3) or (n, 3, height, width). "
        f"Got {as_numpy(images).shape}; reshape flat rows, or pass `images` beside X."
    )


def image_grid(figure: Any, n_rows: int, n_columns: int, caller: str) -> tuple[Any, np.ndarray]:
    """Return a figure with axes for images, close to one another."""
    figure = prepare_figure(figure, caller, (0.4 + 0.62 * n_columns, 0.3 + 0.62 * n_rows))
    axes = figure.subplots(n_rows, n_columns, squeeze=False, gridspec_kw={"wspace": 0.04, "hspace": 0.04})
    return figure, axes


def draw_image(ax: Any, image: np.ndarray, options: dict[str, Any]) -> None:
    """Draw one image without ticks; a grey one from dark to light."""
    ax.imshow(image, **({"cmap": "gray"} if image.ndim == 2 else {}) | options)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def frame(ax: Any, colour: str, dashes: str) -> None:
    """Draw a frame around an image."""
    ax.spines[:].set(visible=True, color=colour, linestyle=dashes, linewidth=1.8)
