"""A probe whose score tells which rows and columns it was given."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class Checksum(ClassifierMixin, BaseEstimator):
    """Scores what it was fitted on and what it is scored on, in one number."""

    n_fits = 0

    def fit(self, X, y):
        Checksum.n_fits += 1
        self.classes_ = np.unique(y)
        self.fitted_ = checksum(X)
        return self

    def score(self, X, y):
        return self.fitted_ + 7 * checksum(X)


def checksum(X) -> float:
    weights = 1 + np.arange(X.shape[1])
    return float((np.abs(np.asarray(X, dtype=np.float64)) @ weights).sum())
