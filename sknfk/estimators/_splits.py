"""Cross-validation where only some rows have a label."""

from __future__ import annotations

import numpy as np
from numpy.random import RandomState
from numpy.typing import ArrayLike
from sklearn.model_selection import PredefinedSplit, StratifiedKFold
from sklearn.utils.validation import column_or_1d

__all__ = ["semi_supervised_split"]


def semi_supervised_split(
    y: ArrayLike, n_splits: int = 5, *, random_state: int | RandomState | None = None
) -> PredefinedSplit:
    """Split labelled rows into stratified folds; unlabelled rows always train.

    Plain ``cv=5`` on labels with -1 for "unlabelled" scores the unlabelled rows as
    errors.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels, -1 where there is none.
    n_splits : int, default=5
        Number of folds, at most the size of the smallest class.
    random_state : int, RandomState instance or None, default=None
        Seeds the shuffling.

    Returns
    -------
    PredefinedSplit
        For ``cv=`` of any scikit-learn search.

    Raises
    ------
    ValueError
        If no row or no class has enough labels.

    Examples
    --------
    >>> from sknfk import semi_supervised_split
    >>> split = semi_supervised_split([0, 1, -1, 0, 1, -1], n_splits=2, random_state=0)
    >>> [len(train) for train, test in split.split()]
    [4, 4]
    """
    labels = column_or_1d(y)
    labelled = np.flatnonzero(labels != -1)
    classes, counts = np.unique(labels[labelled], return_counts=True)
    if len(classes) == 0 or counts.min() < n_splits:
        smallest = int(counts.min()) if len(classes) else 0
        raise ValueError(
            f"`n_splits` must be at most the number of labels of the smallest class. Got n_splits={n_splits} and "
            f"{smallest} labels; lower `n_splits` or label more rows."
        )
    fold = np.full(len(labels), -1)  # -1: never in a test fold
    folds = StratifiedKFold(n_splits, shuffle=True, random_state=random_state)
    for k, (_, test) in enumerate(folds.split(labelled, labels[labelled])):
        fold[labelled[test]] = k
    return PredefinedSplit(fold)
