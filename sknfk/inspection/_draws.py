"""Which rows are labelled: draws with equally many labels per class."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils.validation import column_or_1d

__all__ = ["draw_labels"]


def draw_labels(
    y: ArrayLike,
    n_labels: int | None,
    *,
    n_draws: int = 5,
    random_state: int | RandomState | None = None,
) -> list[np.ndarray]:
    """Draw rows to label, equally many of each class.

    The draws of one seed nest, as labels do when more of them are bought: the
    rows for 3 labels per class are among those for 10.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Class of every row.
    n_labels : int or None
        Rows of each class; None labels all rows.
    n_draws : int, default=5
        Number of draws.
    random_state : int, RandomState instance or None, default=None
        Seeds the draws.

    Returns
    -------
    list of ndarray of shape (n_labels * n_classes,)
        Indices of rows, one array for each draw.

    Raises
    ------
    ValueError
        If a class has too few rows.

    Examples
    --------
    >>> from sknfk.inspection import draw_labels
    >>> [rows.tolist() for rows in draw_labels([0, 0, 1, 1], 1, n_draws=3, random_state=0)]
    [[1, 2], [0, 2], [0, 3]]
    """
    labels = column_or_1d(y)
    if n_labels is None:
        return [np.arange(len(labels))] * n_draws
    classes, counts = np.unique(labels, return_counts=True)
    if not 1 <= n_labels <= counts.min():
        raise ValueError(
            f"`n_labels` must be between 1 and the size of the smallest class, {counts.min()}. "
            f"Got {n_labels}; lower it, or None takes all rows."
        )
    random = check_random_state(random_state)
    draws = []
    for _ in range(n_draws):
        order = random.permutation(len(labels))
        # The leading rows in one order: a larger n_labels only adds to them.
        ranked = [order[labels[order] == c][:n_labels] for c in classes]
        draws.append(np.stack(ranked, axis=1).ravel())
    return draws
