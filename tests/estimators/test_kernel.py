"""NFKernel against the explicit Gram matrix, and in the machines that take kernels."""

import numpy as np
import pytest
from sklearn.cluster import SpectralClustering
from sklearn.datasets import load_digits
from sklearn.decomposition import KernelPCA
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel
from sklearn.kernel_approximation import Nystroem
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KernelCenterer
from sklearn.svm import SVC, SVR
from torch import nn

from sknfk import NFKernel, NFKTransformer

from ..cases import FLOAT64_RTOL, convnet, mlp, rows, seeded

X, X_new = rows(30, 1, 8, 8), rows(7, 1, 8, 8, seed=1)


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("normalize", [None, "l2"])
@pytest.mark.parametrize("fisher", ["diag", "identity"])
def test_kernel_is_the_product_of_the_explicit_fisher_vectors(fisher, normalize):
    kernel = NFKernel(convnet(), fisher=fisher, normalize=normalize).fit(X)
    nfk = NFKTransformer(convnet(), 2, fisher=fisher, random_state=0).fit(X)
    V, V_new = nfk.fisher_vectors(X), nfk.fisher_vectors(X_new)
    if normalize:
        V, V_new = (A / np.linalg.norm(A, axis=1, keepdims=True) for A in (V, V_new))
    assert relative(kernel.transform(X_new), V_new @ V.T) < FLOAT64_RTOL
    assert relative(kernel(X_new), V_new @ V_new.T) < FLOAT64_RTOL
    assert relative(kernel(X, X_new), V @ V_new.T) < FLOAT64_RTOL
    assert relative(kernel.fit_transform(X), V @ V.T) < FLOAT64_RTOL
    assert relative(kernel.diag(X_new), np.square(V_new).sum(1)) < FLOAT64_RTOL


def test_the_transformer_is_the_kernels_best_low_rank_approximation():
    K = NFKernel(convnet()).fit_transform(X)
    values, vectors = np.linalg.eigh(K)
    best = (vectors[:, -5:] * values[-5:]) @ vectors[:, -5:].T
    Z = NFKTransformer(convnet(), 5, tol=1e-14, max_sweeps=30, random_state=0).fit_transform(X)
    assert relative(Z @ Z.T, best) < 1e-6


def test_names_of_the_columns_are_the_examples_of_fit():
    kernel = NFKernel(mlp()).fit(rows(4))
    assert list(kernel.get_feature_names_out()) == [f"nfkernel{i}" for i in range(4)]


DIGITS, LABELS = (a[:250] for a in load_digits(return_X_y=True))
DIGITS = DIGITS / 16


@pytest.fixture(scope="module")
def model():
    return seeded(lambda: nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))).float()


@pytest.fixture(scope="module")
def gp_kernel(model):
    return NFKernel(model, normalize="l2").fit(DIGITS).as_gp_kernel()


def test_svc_cross_validates_on_the_precomputed_kernel(model):
    scores = cross_val_score(make_pipeline(NFKernel(model), SVC(kernel="precomputed")), DIGITS, LABELS, cv=3)
    assert scores.min() > 0.8


def test_a_search_over_kernel_and_machine_runs_and_the_centerer_fits_between(model):
    pipe = make_pipeline(NFKernel(model), KernelCenterer(), SVC(kernel="precomputed"))
    grid = {"nfkernel__normalize": [None, "l2"], "svc__C": [1.0, 10.0]}
    assert GridSearchCV(pipe, grid, cv=2).fit(DIGITS, LABELS).best_score_ > 0.7


def test_gp_kernel_is_evaluated_once_for_a_whole_matrix(gp_kernel, monkeypatch):
    calls = []
    whole = NFKernel._between
    monkeypatch.setattr(NFKernel, "_between", lambda self, *args: calls.append(1) or whole(self, *args))
    ridge = KernelRidge(kernel=gp_kernel, alpha=0.1).fit(DIGITS, LABELS)
    ridge.predict(DIGITS[:5])
    assert len(calls) == 2


def test_kernel_ridge_on_the_gp_kernel_is_the_closed_form(gp_kernel):
    K = gp_kernel(DIGITS)
    expected = gp_kernel(DIGITS[:9], DIGITS) @ np.linalg.solve(K + 0.1 * np.eye(len(K)), LABELS)
    found = KernelRidge(kernel=gp_kernel, alpha=0.1).fit(DIGITS, LABELS).predict(DIGITS[:9])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)  # gradients are in float32


def test_kernel_pca_on_the_gp_kernel_is_that_of_the_precomputed_one(gp_kernel):
    found = KernelPCA(4, kernel=gp_kernel, eigen_solver="dense").fit_transform(DIGITS)
    expected = KernelPCA(4, kernel="precomputed", eigen_solver="dense").fit_transform(gp_kernel(DIGITS))
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-3, atol=1e-4)


def test_nystroem_and_support_vectors_take_the_gp_kernel(gp_kernel):
    features = Nystroem(gp_kernel, n_components=60, random_state=0).fit_transform(DIGITS)
    assert relative(features @ features.T, gp_kernel(DIGITS)) < 0.5
    assert SVC(kernel=gp_kernel).fit(DIGITS, LABELS).score(DIGITS, LABELS) > 0.9
    assert cross_val_score(SVC(kernel=gp_kernel), DIGITS, LABELS, cv=2).min() > 0.6
    assert SVR(kernel=gp_kernel).fit(DIGITS, LABELS).predict(DIGITS).shape == (250,)


def test_a_gaussian_process_without_noise_goes_through_the_targets_of_a_float32_model(gp_kernel):
    X, y = DIGITS[:120], LABELS[:120]
    regressor = GaussianProcessRegressor(gp_kernel).fit(X, y)
    np.testing.assert_allclose(regressor.predict(X), y, atol=1e-5)
    K, diagonal = gp_kernel(X), gp_kernel.diag(X)
    assert K.dtype == diagonal.dtype == np.float64
    assert gp_kernel.kernel(X).dtype == gp_kernel.kernel.diag(X).dtype == np.float32


def test_a_gaussian_process_is_fitted_to_more_rows_than_there_are_parameters():
    X = rows(200).astype(np.float32)
    regressor = GaussianProcessRegressor(NFKernel(mlp(5, 1).float(), density="output").fit(X).as_gp_kernel())
    assert np.isfinite(regressor.fit(X, X[:, 0]).predict(X[:5], return_std=True)).all()


def test_gaussian_processes_fit_their_own_hyper_parameters_around_it(gp_kernel):
    regressor = GaussianProcessRegressor(ConstantKernel(10.0) * gp_kernel + WhiteKernel(1.0), normalize_y=True)
    mean, std = regressor.fit(DIGITS[:120], LABELS[:120]).predict(DIGITS[120:], return_std=True)
    assert np.corrcoef(mean, LABELS[120:])[0, 1] > 0.5 and (std > 0).all()
    # Fisher vectors are centred: the constant carries the base rate.
    classifier = GaussianProcessClassifier(ConstantKernel(10.0) * gp_kernel + ConstantKernel(1.0))
    classifier.fit(DIGITS[:120], LABELS[:120] == 0)
    assert classifier.score(DIGITS[120:], LABELS[120:] == 0) > 0.95


def test_spectral_clustering_takes_the_cosine_kernel_moved_to_zero_and_one(model):
    K = NFKernel(model, normalize="l2").fit_transform(DIGITS)
    affinity = (1 + K) / 2
    assert affinity.min() >= 0
    groups = SpectralClustering(10, affinity="precomputed", random_state=0).fit_predict(affinity)
    assert len(np.unique(groups)) == 10


def test_gp_kernel_says_what_it_is(gp_kernel):
    assert repr(gp_kernel) == "FisherGPKernel(Sequential)"
    assert not gp_kernel.is_stationary()
    K, gradient = gp_kernel(DIGITS[:3], eval_gradient=True)
    assert K.shape == (3, 3) and gradient.shape == (3, 3, 0)
    np.testing.assert_allclose(gp_kernel.diag(DIGITS[:3]), 1)
