"""What a linear probe would say without some of its training rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ._plotting import as_numpy

__all__ = ["logistic_influence", "ridge_influence"]


def ridge_influence(K: ArrayLike, y: ArrayLike, K_test: ArrayLike, *, alpha: float = 1.0) -> np.ndarray:
    """Return how predictions of kernel ridge change if a training row is removed.

    In closed form and exact: with Q = (K + alpha I)^-1 and dual coefficients c = Q y,
    the refitted coefficients without row i are c - Q_i c_i / Q_ii, so that the
    prediction at x changes by -k(x)^T Q_i c_i / Q_ii. On the training rows themselves,
    predictions K c plus the diagonal of ``ridge_influence(K, y, K)`` are those that
    leave one out.

    Cost: O(N^3 + M N^2).

    Parameters
    ----------
    K : array-like of shape (n_samples, n_samples)
        Kernel of the training rows, such as ``NFKernel``'s, or Z Z^T of an embedding.
    y : array-like of shape (n_samples,) or (n_samples, n_targets)
        Targets; center them, as ``KernelRidge`` has no intercept.
    K_test : array-like of shape (n_samples_test, n_samples)
        Kernel of other rows with the training rows.
    alpha : float, default=1.0
        Penalty, as ``KernelRidge``'s.

    Returns
    -------
    ndarray of shape (n_samples_test, n_samples) or (n_samples_test, n_samples, n_targets)
        Change of the prediction on a test row if a training row is removed.

    Raises
    ------
    ValueError
        If the kernels have other shapes than these, or ``alpha`` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from sknfk.inspection import ridge_influence
    >>> Z, y = np.array([[1.0], [2.0]]), np.array([1.0, 1.0])
    >>> ridge_influence(Z @ Z.T, y, Z @ Z.T).round(3)
    array([[-0.1, -0. ],
           [-0.2, -0. ]])
    """
    K, y, K_test = (np.asarray(as_numpy(a), dtype=np.float64) for a in (K, y, K_test))
    N = len(y)
    if K.shape != (N, N) or K_test.ndim != 2 or K_test.shape[1] != N:
        raise ValueError(
            f"`K` must be of shape {(N, N)} and `K_test` of shape (n_samples_test, {N}), as y has {N} rows. "
            f"Got {K.shape} and {K_test.shape}; pass kernels with the training rows."
        )
    if not alpha > 0:
        raise ValueError(f"`alpha` must be above 0. Got {alpha}; without a penalty the kernel may have no inverse.")
    Q = np.linalg.inv(K + alpha * np.eye(N))
    columns = y.reshape(N, -1)  # (N, T)
    removed = (Q @ columns) / np.diag(Q)[:, None]  # c_i / Q_ii, the residual that leaves row i out
    change = -(K_test @ Q)[:, :, None] * removed  # (M, N, T)
    return change.reshape(*change.shape[:2], *y.shape[1:])


def logistic_influence(
    probe: LogisticRegression, Z: ArrayLike, y: ArrayLike, Z_test: ArrayLike, y_test: ArrayLike
) -> np.ndarray:
    """Return how margins change, to first order, if a training row is removed.

    The margin of class y is log p_y / (1 - p_y). Removing row i moves the probe's
    parameters by H^-1 g_i, with H the Hessian of its penalised loss and g_i the
    gradient of row i's part of it (Koh and Liang, 2017, Eq. 2), and the margin by its
    derivative along that step. For a set of rows, add their columns.

    Cost: O((C d)^3 + N (C d)^2) for C classes and d features.

    Parameters
    ----------
    probe : LogisticRegression
        Fitted on ``Z`` and ``y``, with an L2 penalty and an intercept, and well
        converged: ``tol=1e-8``, say.
    Z : array-like of shape (n_samples, n_features)
        Its training rows.
    y : array-like of shape (n_samples,)
        Their classes.
    Z_test : array-like of shape (n_samples_test, n_features)
        Other rows.
    y_test : array-like of shape (n_samples_test,)
        The classes of which margins are asked.

    Returns
    -------
    ndarray of shape (n_samples_test, n_samples)
        Change of the margin of a test row if a training row is removed.

    Raises
    ------
    ValueError
        If y has one class, or a class that the probe does not know.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sknfk.inspection import logistic_influence
    >>> Z, y = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1])
    >>> probe = LogisticRegression(tol=1e-10).fit(Z, y)
    >>> logistic_influence(probe, Z, y, [[1.5]], [1]).shape
    (1, 4)
    """
    check_is_fitted(probe)
    check_consistent_length(Z, y)
    check_consistent_length(Z_test, y_test)
    own, other = _features(probe, Z), _features(probe, Z_test)  # (N, D), (M, D)
    own_codes, other_codes = _codes(probe, y, "y"), _codes(probe, y_test, "y_test")
    if len(np.unique(own_codes)) < 2:
        raise ValueError("`y` must have at least two classes. Got one; pass rows of another class too.")
    p = probe.predict_proba(as_numpy(Z))  # (N, C)
    gradients = probe.C * np.einsum("nc,nd->ncd", p - np.eye(p.shape[1])[own_codes], own).reshape(len(own), -1)
    steps = np.linalg.solve(_hessian(probe, p, own), gradients.T)  # (C D, N)
    along = _margin_derivatives(probe.decision_function(as_numpy(Z_test)), other_codes)  # (M, C)
    return np.einsum("mc,md->mcd", along, other).reshape(len(other), -1) @ steps


def _features(probe: LogisticRegression, Z: ArrayLike) -> np.ndarray:
    rows = np.asarray(as_numpy(Z), dtype=np.float64)
    return np.hstack([rows, np.ones((len(rows), 1))]) if probe.fit_intercept else rows


def _codes(probe: LogisticRegression, labels: ArrayLike, name: str) -> np.ndarray:
    labels = as_numpy(labels)
    unknown = np.setdiff1d(labels, probe.classes_)
    if len(unknown):
        raise ValueError(
            f"`{name}` must hold classes that `probe` was fitted on, {probe.classes_.tolist()}. Got {unknown[0]}; "
            "fit the probe on it too."
        )
    return np.searchsorted(probe.classes_, labels)


def _hessian(probe: LogisticRegression, p: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the Hessian of C sum_i loss_i + ||W||^2 / 2 by W and the intercepts, (C D, C D).

    A binary probe of scikit-learn has one w for the two rows -w/2 and w/2 of W, so that
    ||w||^2 / 2 is ||W||^2. Intercepts may all grow alike: no row asks for it, and a unit
    of curvature along it makes the inverse exist.
    """
    n_classes, D = p.shape[1], rows.shape[1]
    is_intercept = np.zeros(D)
    is_intercept[probe.coef_.shape[1] :] = 1
    penalty = np.diag(1 - is_intercept) * (2 if n_classes == 2 else 1)
    gauge = np.diag(is_intercept)
    H = np.empty((n_classes, D, n_classes, D))
    for a in range(n_classes):
        for b in range(n_classes):
            weights = probe.C * p[:, a] * ((a == b) - p[:, b])
            H[a, :, b] = (rows * weights[:, None]).T @ rows + gauge + (penalty if a == b else 0)
    return H.reshape(n_classes * D, n_classes * D)


def _margin_derivatives(logits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return d/dlogits of log p_y / (1 - p_y): 1 for y, and minus the others' shares among themselves."""
    if logits.ndim == 1:  # of a binary probe
        logits = np.column_stack([-logits / 2, logits / 2])
    is_own = np.eye(logits.shape[1], dtype=bool)[codes]
    others = np.where(is_own, -np.inf, logits)
    others = np.exp(others - others.max(1, keepdims=True))
    return is_own - others / others.sum(1, keepdims=True)
