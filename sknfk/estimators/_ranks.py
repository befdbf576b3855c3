"""TakeComponents: the rank of an embedding as a pipeline step."""

from __future__ import annotations

from numbers import Integral

from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from .._sklearn import Interval, fit_context

__all__ = ["TakeComponents"]


class TakeComponents(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Take the first columns of an embedding whose columns nest.

    After a cached :class:`NFKTransformer` in a pipeline, a search over the rank
    then costs one factorisation for each fold.

    Parameters
    ----------
    n_components : int or None, default=None
        Number of columns, at most those of X; None takes all.

    Attributes
    ----------
    n_components_ : int
        Number of columns taken.
    n_features_in_ : int
        Number of columns seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns seen during fit, where X has string column names.

    See Also
    --------
    NFKTransformer : Gives embeddings whose columns nest.

    Examples
    --------
    >>> import numpy as np
    >>> from sknfk import TakeComponents
    >>> TakeComponents(2).fit_transform(np.eye(3)).shape
    (3, 2)
    """

    _parameter_constraints: dict = {"n_components": [Interval(Integral, 1, None, closed="left"), None]}

    def __init__(self, n_components=None):
        self.n_components = n_components

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Check the number of columns.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The embedding.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        self : TakeComponents
            The fitted transformer.
        """
        X = validate_data(self, X)
        self.n_components_ = X.shape[1] if self.n_components is None else self.n_components
        if self.n_components_ > X.shape[1]:
            raise ValueError(
                f"`n_components` must be at most the number of columns of X, {X.shape[1]}. Got {self.n_components}; "
                "lower it, or raise `n_components` of the step before."
            )
        return self

    def transform(self, X):
        """Return the first columns.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The embedding.

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
            Its first columns.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        return X[:, : self.n_components_]

    @property
    def _n_features_out(self) -> int:
        return self.n_components_
