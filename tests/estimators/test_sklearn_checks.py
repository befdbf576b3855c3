"""Both lists of scikit-learn's checks, in every form that the model can take."""

import importlib.util

import pytest
import torch
from sklearn.base import clone
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import GradientFeatureClassifier, NFKDistiller, NFKernel, NFKTransformer, TakeComponents

from ..cases import any_width

# What scikit-learn runs on its own estimators and `parametrize_with_checks` leaves out.
CHECKS_OF_ALL = ["check_dataframe_column_names_consistency", "check_inplace_ensure_writeable", "check_param_validation"]
FURTHER_CHECKS = [
    *CHECKS_OF_ALL,
    "check_get_feature_names_out_error",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
]


class Factory(nn.Sequential):
    """A class that builds a small network for any number of features."""

    def __init__(self, n_features):
        super().__init__(nn.Linear(n_features, 6), nn.Tanh(), nn.Linear(6, 2))


class LazyClassifier(nn.Module):
    """A network that learns its width from the first batch, for skorch.

    It computes in float32, and one check wants rows in another order to agree to 1e-7:
    widths that fill a SIMD register leave torch no tail of a row to round otherwise.
    """

    def __init__(self, n_classes=16):
        super().__init__()
        self.body, self.head = nn.LazyLinear(16), nn.Linear(16, n_classes)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


def skorch_net():
    return NeuralNetClassifier(
        LazyClassifier, criterion=nn.CrossEntropyLoss, max_epochs=2, lr=0.1, train_split=None, verbose=0
    )


TRANSFORMERS = {
    "none": lambda: NFKTransformer(n_components=3),
    "factory": lambda: NFKTransformer(Factory, n_components=3),
    "pretrained": lambda: NFKTransformer(any_width(), n_components=3),
    "skorch": lambda: NFKTransformer(skorch_net(), n_components=3),
    "float32": lambda: NFKTransformer(n_components=3, dtype="float32"),
    "identity": lambda: NFKTransformer(n_components=3, fisher="identity"),
    "sketch": lambda: NFKTransformer(any_width(), n_components=3, solver="sketch", sketch_width=16),
    "sketch-refined": lambda: NFKTransformer(any_width(), n_components=3, solver="sketch-refined", sketch_width=16),
}
KERNELS = {
    "kernel": lambda: NFKernel(),
    "cosine-kernel": lambda: NFKernel(normalize="l2"),
    "take-components": lambda: TakeComponents(),
}
ESTIMATORS = {**TRANSFORMERS, **KERNELS}
CLASSIFIERS = {
    "gradient-features": lambda: GradientFeatureClassifier(),
    "activations": lambda: GradientFeatureClassifier(features="activation"),
    "distiller": lambda: NFKDistiller(),
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:`n_components` must be at most min:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*Estimated lost energy.*:sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:solver='lbfgs' stopped after:sklearn.exceptions.ConvergenceWarning"),
]


@parametrize_with_checks([make() for make in (ESTIMATORS | CLASSIFIERS).values()])
def test_scikit_learn_checks_pass(estimator, check):
    check(estimator)


@pytest.mark.parametrize("check", FURTHER_CHECKS)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_checks_that_scikit_learn_runs_on_itself_pass(name, check):
    estimator = ESTIMATORS[name]()
    getattr(estimator_checks, check)(type(estimator).__name__, clone(estimator))


@pytest.mark.parametrize("check", CHECKS_OF_ALL)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_checks_of_classifiers_that_scikit_learn_runs_on_itself_pass(name, check):
    estimator = CLASSIFIERS[name]()
    getattr(estimator_checks, check)(type(estimator).__name__, clone(estimator))


@pytest.mark.parametrize("package", ["pandas", "polars", "array_api_strict"])
def test_no_check_is_skipped_for_want_of_a_package(package):
    assert importlib.util.find_spec(package) is not None
