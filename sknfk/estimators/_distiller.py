"""NFKDistiller: a student net trained on labels and on a teacher's embedding."""

from __future__ import annotations

from numbers import Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch import NeuralNetClassifier
from torch import Tensor, nn

from .._sklearn import HasMethods, Interval, StrOptions, fit_context, readable, restored_on_failure
from .._tokens import takes_tokens
from .._torch import seeded_torch
from ..training import DISTANCES, UNLABELLED, distil, interruptible
from ._transformer import NFKTransformer

__all__ = ["NFKDistiller"]


class NFKDistiller(ClassifierMixin, BaseEstimator):
    """Train a student net on labels and on a teacher's embedding.

    The student's loss on a batch is [1]_

        alpha * its own loss on the labelled rows + (1 - alpha) * d(h(x), e(x)),

    with e(x) the teacher's embedding, computed once, and h(x) what a layer of the
    student gives, mapped to e's width by a matrix that is trained along and then
    dropped. Rows labelled -1 take part in the second term alone. With ``alpha=1`` this
    is the student, trained on the labelled rows.

    Cost of ``fit``: the teacher's ``fit`` and ``transform``, and the student's
    training. Of ``predict``: the student's.

    Parameters
    ----------
    student : NeuralNetClassifier or None, default=None
        A skorch net, with any module; a clone of it is trained. Its validation split
        is not used, so that its callbacks must not wait for a validation loss. None is a
        small network, a convenience.
    teacher : transformer or None, default=None
        Such as ``NFKTransformer(model)``; a clone of it is fitted on X and y. In a
        ``FrozenEstimator`` it is used as it is. None is ``NFKTransformer()``.
    alpha : float, default=0.5
        Weight of the labels, 0 to 1.
    distance : {"l2", "cosine"} or callable, default="l2"
        d, averaged over rows: half the mean squared difference, where e is first divided
        by the root mean square of all its entries; one minus the cosine; or what a
        callable ``(h, e)`` of two (B, K) tensors returns, a scalar.
    layer : str or None, default=None
        The student's layer whose output is h, by its name in ``named_modules()``. None
        takes what the topmost layer takes in: the last hidden layer.
    projection : {"linear"} or None, default="linear"
        Whether h is mapped to e's width; None asks for equal widths.
    random_state : int, RandomState instance or None, default=None
        Seeds the student's weights and batches.

    Attributes
    ----------
    student_ : NeuralNetClassifier
        The trained net, without anything of the teacher's.
    teacher_ : transformer
        The fitted teacher. Only where ``alpha`` is below 1.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_features_in_ : int
        The second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features, where X has them.

    See Also
    --------
    NFKTransformer : The embedding.
    semi_supervised_split : Cross-validation where some rows have no label.

    Notes
    -----
    A fit with ``alpha=1`` takes fewer steps an epoch where rows have no label: compare it
    with as many steps.

    Distillation of logits (``layer`` the last layer, ``projection=None``, a callable
    that compares softened probabilities) and of hidden activations are the same
    estimator with another teacher and distance.

    References
    ----------
    .. [1] Zhang, Zhai, Littwin, Susskind. "Learning Representation from Neural
       Fisher Kernel with Low-rank Approximation", ICLR 2022, appendix D.2, Eq. 16.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sknfk import NFKDistiller
    >>> X, y = load_digits(return_X_y=True)
    >>> y[:500] = -1  # without a label
    >>> distiller = NFKDistiller(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> distiller.score(X[1000:] / 16, y[1000:]) > 0.8
    True
    """

    _parameter_constraints: dict = {
        "student": [NeuralNetClassifier, None],
        "teacher": [HasMethods(["fit", "transform"]), None],
        "alpha": [Interval(Real, 0, 1, closed="both")],
        "distance": [StrOptions(set(DISTANCES)), callable],
        "layer": [str, None],
        "projection": [StrOptions({"linear"}), None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        student=None,
        teacher=None,
        *,
        alpha=0.5,
        distance="l2",
        layer=None,
        projection="linear",
        random_state=None,
    ):
        self.student = student
        self.teacher = teacher
        self.alpha = alpha
        self.distance = distance
        self.layer = layer
        self.projection = projection
        self.random_state = random_state

    def __sklearn_tags__(self):
        """Say what scikit-learn may ask of this estimator."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y):
        """Embed X by the teacher, then train the student.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.
        y : array-like of shape (n_samples,)
            Classes; where they are integers, -1 marks a row without a label (but in a y
            of -1 and 1 alone, which is a problem of two classes).

        Returns
        -------
        self : NFKDistiller
            The fitted distiller.
        """
        with restored_on_failure(self):
            self._fit(X, y)
        return self

    def _fit(self, X, y) -> None:
        X, y = validate_data(self, readable(X), y, allow_nd=True, dtype="numeric", ensure_min_samples=2)
        check_classification_targets(y)
        labelled = _is_labelled(y)
        self.classes_, codes = np.unique(y[labelled], return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y must have at least two classes. Got {len(self.classes_)} class among {labelled.sum()} labelled "
                "rows; pass more labels."
            )
        labels = np.full(len(y), UNLABELLED, dtype=np.int64)
        labels[labelled] = codes
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        student = small_net(X, len(self.classes_)) if self.student is None else self.student
        with seeded_torch(seed):
            as_tokens = takes_tokens(clone(student).initialize().module_.eval(), X.shape[1:])
        self._rows_dtype = np.int64 if as_tokens else np.float32
        rows = np.asarray(X).astype(self._rows_dtype)
        if self.alpha == 1:
            plain = clone(student).set_params(train_split=None)
            with seeded_torch(seed), interruptible(plain):
                self.student_ = plain.fit(rows[labelled], labels[labelled])
            return
        self.teacher_ = (NFKTransformer(random_state=seed) if self.teacher is None else clone(self.teacher)).fit(X, y)
        embedding = np.asarray(self.teacher_.transform(X), dtype=np.float32).reshape(len(X), -1)
        self.student_ = distil(
            student,
            rows,
            labels,
            of_unit_mean_square(embedding) if self.distance == "l2" else embedding,
            alpha=self.alpha,
            distance=self.distance if callable(self.distance) else DISTANCES[self.distance],
            layer=self.layer,
            projection=self.projection,
            seed=seed,
        )

    def predict(self, X):
        """Return the student's classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.

        Returns
        -------
        ndarray of shape (n_samples,)
            Classes.
        """
        probabilities = self.predict_proba(X)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_proba(self, X):
        """Return the student's class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities.
        """
        check_is_fitted(self)
        X = validate_data(self, readable(X), reset=False, allow_nd=True, dtype="numeric")
        found = self.student_.predict_proba(np.asarray(X).astype(self._rows_dtype))
        found = found[:, : len(self.classes_)]  # a student may have outputs for classes that y has not
        return found / found.sum(axis=1, keepdims=True)


class SmallNet(nn.Module):
    """One hidden layer: what ``student=None`` stands for."""

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(n_features, 64), nn.ReLU())
        self.head = nn.Linear(64, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, C)."""
        return self.head(self.body(x.flatten(1)))


def small_net(X: np.ndarray, n_classes: int) -> NeuralNetClassifier:
    """Return the student that ``student=None`` stands for."""
    return NeuralNetClassifier(
        SmallNet,
        module__n_features=int(np.prod(X.shape[1:])),
        module__n_classes=n_classes,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=20,
        batch_size=32,
        iterator_train__shuffle=True,
        verbose=0,
    )


def _is_labelled(y: np.ndarray) -> np.ndarray:
    if y.dtype.kind != "i" or set(np.unique(y)) == {UNLABELLED, 1}:
        return np.ones(len(y), dtype=bool)
    return y != UNLABELLED


def of_unit_mean_square(embedding: np.ndarray) -> np.ndarray:
    """Divide an embedding as a whole, so that its distance is of the order of one."""
    return embedding / max(float(np.sqrt(np.square(embedding, dtype=np.float64).mean())), 1e-30)
