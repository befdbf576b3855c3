"""Influence on probes against probes that are fitted anew without the rows."""

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from sknfk import NFKernel
from sknfk.inspection import logistic_influence, ridge_influence

from ..cases import convnet, rows

ALPHA = 0.3
X, X_test = rows(25, 1, 8, 8), rows(6, 1, 8, 8, seed=1)


@pytest.fixture(scope="module")
def kernels():
    kernel = NFKernel(convnet()).fit(X)
    return kernel(X), kernel(X_test, X)


@pytest.mark.parametrize("shape", [(25,), (25, 3)])
def test_ridge_influence_is_that_of_fitting_anew(kernels, shape):
    (K, K_test), y = kernels, rows(*shape, seed=2) if len(shape) > 1 else rows(25, 1, seed=2)[:, 0]
    found = ridge_influence(K, y, K_test, alpha=ALPHA)
    before = KernelRidge(alpha=ALPHA, kernel="precomputed").fit(K, y).predict(K_test)
    assert found.shape == (6, *shape)
    for i in range(25):
        kept = np.delete(np.arange(25), i)
        refitted = KernelRidge(alpha=ALPHA, kernel="precomputed").fit(K[np.ix_(kept, kept)], y[kept])
        np.testing.assert_allclose(found[:, i], refitted.predict(K_test[:, kept]) - before, atol=1e-8, rtol=1e-8)


def test_predictions_that_leave_one_out_equal_refitting(kernels):
    (K, _), y = kernels, rows(25, 1, seed=2)[:, 0]
    probe = KernelRidge(alpha=ALPHA, kernel="precomputed")
    found = probe.fit(K, y).predict(K) + np.diag(ridge_influence(K, y, K, alpha=ALPHA))
    np.testing.assert_allclose(found, cross_val_predict(probe, K, y, cv=LeaveOneOut()), atol=1e-8, rtol=1e-8)


def margins(probe, Z, y):
    p = probe.predict_log_proba(Z)[np.arange(len(Z)), np.searchsorted(probe.classes_, y)]
    return p - np.log1p(-np.exp(p))


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_logistic_influence_is_the_derivative_by_the_rows_weight(n_classes, fit_intercept):
    Z, Z_test = rows(40, 3), rows(5, 3, seed=1)
    y, y_test = np.arange(40) % n_classes + 7, np.arange(5) % n_classes + 7
    probe = LogisticRegression(C=0.5, tol=1e-12, max_iter=10_000, solver="newton-cg", fit_intercept=fit_intercept)
    found = logistic_influence(probe.fit(Z, y), Z, y, Z_test, y_test)
    assert found.shape == (5, 40)
    step = 1e-3
    for i in (0, 1, 17):
        ends = []
        for weight in (1 - step, 1 + step):
            weights = np.ones(40)
            weights[i] = weight
            ends.append(margins(probe.fit(Z, y, sample_weight=weights), Z_test, y_test))
        np.testing.assert_allclose(found[:, i], (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-6)


def test_margins_of_rows_that_are_certain_are_finite():
    Z, y = rows(40, 3), np.arange(40) % 3
    probe = LogisticRegression().fit(Z, y)
    assert probe.predict_proba(1e5 * Z).min() == 0
    assert np.isfinite(logistic_influence(probe, Z, y, 1e5 * Z, y)).all()


def test_kernels_of_other_shapes_are_refused(kernels):
    K, K_test = kernels
    with pytest.raises(ValueError, match=r"`K_test` of shape \(n_samples_test, 25\).*Got \(25, 25\) and \(25, 6\)"):
        ridge_influence(K, np.zeros(25), K_test.T)
    with pytest.raises(ValueError, match="`alpha` must be above 0. Got 0"):
        ridge_influence(K, np.zeros(25), K_test, alpha=0)


def test_one_class_and_unknown_classes_are_refused():
    Z, y = rows(10, 2), np.arange(10) % 2
    probe = LogisticRegression().fit(Z, y)
    with pytest.raises(ValueError, match="`y` must have at least two classes. Got one"):
        logistic_influence(probe, Z, np.zeros(10, dtype=int), Z, y)
    with pytest.raises(ValueError, match=r"`y_test` must hold classes.*\[0, 1\]. Got 2"):
        logistic_influence(probe, Z, y, Z, y + 1)
