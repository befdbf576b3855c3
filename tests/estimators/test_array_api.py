"""Torch tensors in, torch tensors out, end to end; without dispatch numpy comes out."""

import numpy as np
import pytest
import sklearn
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from sknfk import GradientFeatureClassifier, NFKDistiller, NFKernel, NFKTransformer, TakeComponents

from ..cases import any_width, rows

X = torch.from_numpy(rows(60))
y = (X[:, 0] > 0).long()
ARRAYS = ("components_", "singular_values_", "explained_variance_", "mean_score_", "information_", "scale_")


@pytest.fixture
def dispatch():
    with sklearn.config_context(array_api_dispatch=True):
        yield


@pytest.mark.usefixtures("dispatch")
def test_a_pipeline_of_tensors_stays_in_torch_end_to_end():
    pipe = make_pipeline(
        NFKTransformer(any_width(), 6, random_state=0), TakeComponents(4), LogisticRegression(solver="lbfgs")
    )
    pipe.fit(X, y)
    assert isinstance(pipe[:-1].transform(X), torch.Tensor)
    assert all(isinstance(getattr(pipe[0], name), torch.Tensor) for name in ARRAYS)
    assert isinstance(pipe.predict_proba(X), torch.Tensor)
    assert pipe.score(X, y) > 0.6


@pytest.mark.usefixtures("dispatch")
def test_a_grid_search_runs_on_tensors():
    pipe = make_pipeline(NFKTransformer(any_width(), random_state=0), LogisticRegression(solver="lbfgs"))
    found = GridSearchCV(pipe, {"nfktransformer__n_components": [2, 4]}, cv=3).fit(X, y)
    assert isinstance(found.predict(X), torch.Tensor)


@pytest.mark.usefixtures("dispatch")
def test_every_method_answers_in_the_namespace_of_its_input():
    nfk = NFKTransformer(any_width(), 4, random_state=0).fit(X)
    for method in ("transform", "residual", "log_density", "fisher_vectors"):
        assert isinstance(getattr(nfk, method)(X), torch.Tensor), method
    assert isinstance(nfk.score(X), float)
    kernel = NFKernel(any_width()).fit(X)
    assert isinstance(kernel(X), torch.Tensor) and isinstance(kernel.diag(X), torch.Tensor)


@pytest.mark.usefixtures("dispatch")
def test_values_are_those_of_numpy():
    from_torch = NFKTransformer(any_width(), 4, random_state=0).fit(X)
    from_numpy = NFKTransformer(any_width(), 4, random_state=0).fit(X.numpy())
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(from_torch, name).numpy(), getattr(from_numpy, name))


def test_without_dispatch_a_tensor_keeps_its_dtype_and_numpy_comes_out():
    nfk = NFKTransformer(n_components=3, random_state=0)
    out = nfk.fit_transform(X.float())
    assert isinstance(out, np.ndarray) and out.dtype == np.float32
    np.testing.assert_array_equal(out, nfk.fit_transform(X.float().numpy()))


@pytest.mark.parametrize(
    "estimator",
    [
        lambda: NFKTransformer(any_width(), 3, random_state=0),
        lambda: NFKTransformer(any_width(), 3, statistics=X.bfloat16(), random_state=0),
        lambda: NFKernel(any_width()),
        lambda: GradientFeatureClassifier(any_width(), random_state=0),
        lambda: NFKDistiller(random_state=0),
    ],
)
def test_tensors_of_dtypes_that_numpy_lacks_are_read_in_float32(estimator):
    lacking = X.bfloat16()
    y = np.arange(len(X)) % 2
    method = "predict_proba" if hasattr(estimator(), "predict_proba") else "transform"
    found, expected = (getattr(estimator().fit(A, y), method)(A) for A in (lacking, lacking.float().numpy()))
    np.testing.assert_array_equal(found, expected)


def test_a_tensor_that_requires_a_gradient_is_read_without_one():
    nfk = NFKTransformer(any_width(), 3, random_state=0)
    np.testing.assert_array_equal(nfk.fit_transform(X.clone().requires_grad_()), nfk.fit_transform(X))


@pytest.mark.gpu
@pytest.mark.usefixtures("dispatch")
def test_tensors_on_cuda_stay_there():
    nfk = NFKTransformer(any_width(), 4, random_state=0).fit(X.cuda())
    assert nfk.transform(X.cuda()).device.type == "cuda"
    expected = NFKTransformer(any_width(), 4, random_state=0, device="cpu").fit(X).transform(X)
    torch.testing.assert_close(nfk.transform(X.cuda()).cpu(), expected, rtol=1e-6, atol=1e-8)
