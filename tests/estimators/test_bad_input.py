"""Bad input gets one clear sentence: what must hold, what was got, what to do."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from sknfk import NFKernel, NFKTransformer
from sknfk.densities import (
    Classifier,
    Density,
    Discriminator,
    Embedding,
    Logit,
    LogProb,
    MultiLabel,
    Output,
    Sampled,
)
from sknfk.fisher import _statistics

from ..cases import convnet, mlp, rows, seeded, tokens

X = rows(12)


@pytest.fixture(params=[NFKTransformer, NFKernel])
def estimator(request):
    return request.param


@pytest.fixture
def no_heavy_work(monkeypatch):
    """Fail if a pass over the data starts."""

    def refuse(*arguments):
        raise AssertionError("a pass over the data was started")

    monkeypatch.setattr(_statistics, "estimate_moments", refuse)
    monkeypatch.setattr("sknfk.estimators._base.estimate_moments", refuse)


def with_value(value):
    bad = X.copy()
    bad[3, 1] = value
    return bad


BAD_X = {
    "nan": (with_value(np.nan), "Input X contains NaN"),
    "infinity": (with_value(np.inf), "Input X contains infinity"),
    "complex": (X.astype(complex), "Complex data not supported"),
    "object": (np.array([["a", "b"], ["c", "d"]], dtype=object), "could not convert string to float"),
    "empty": (X[:0], "Found array with 0 sample"),
    "one row": (X[:1], r"Found array with 1 sample.* a minimum of 2 is required"),
    "one dimension": (X[0], "Expected 2D array, got 1D array"),
    "wrong width": (rows(12, 4), r"must accept rows of shape \(4,\) and dtype float64.*Check X against the model"),
}


@pytest.mark.usefixtures("no_heavy_work")
@pytest.mark.parametrize("name", BAD_X)
def test_bad_rows_are_refused_before_heavy_work(estimator, name):
    bad, message = BAD_X[name]
    with pytest.raises(ValueError, match=message):
        estimator(mlp()).fit(bad)


class Hidden(nn.Linear):
    def forward(self, x):
        return super().forward(x)[:, None, :].expand(-1, 7, -1)


class Noisy(nn.Linear):
    def forward(self, x):
        return super().forward(x) + torch.randn(len(x), self.out_features, dtype=x.dtype)


class Mixing(nn.Linear):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class Refusing(nn.Linear):
    def forward(self, x):
        raise ValueError("specify input_ids")


class RootOfZero(nn.Linear):
    def __init__(self):
        super().__init__(5, 3)
        self.start = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return super().forward(x) + self.start.sqrt()


BAD_OPTIONS = {
    "n_components 0": (lambda: {"n_components": 0}, "The 'n_components' parameter of NFKTransformer must be"),
    "n_components 1.5": (lambda: {"n_components": 1.5}, r"'n_components' .* range \(0.0, 1.0\). Got 1.5"),
    "n_components text": (lambda: {"n_components": "many"}, "'n_components' .* Got 'many'"),
    "damping": (lambda: {"damping": -1.0}, "'damping' .* Got -1.0"),
    "solver": (lambda: {"solver": "magic"}, "'solver' .* Got 'magic'"),
    "density name": (lambda: {"density": "energy"}, "'density' .* Got 'energy'"),
    "hidden state": (lambda: {"model": seeded(lambda: Hidden(5, 3))}, r"one scalar.*shape \(3, 7, 3\).*Choose its"),
    "random": (lambda: {"model": seeded(lambda: Noisy(5, 3))}, "must return the same values for the same X"),
    "mixing": (lambda: {"model": seeded(lambda: Mixing(5, 3))}, "must treat the examples of a batch one by one"),
    "nan gradient": (lambda: {"model": seeded(RootOfZero)}, "That of 'start' is NaN or infinite"),
    "no parameter": (lambda: {"model": mlp().requires_grad_(False)}, "must have a parameter that requires a gradient"),
    "no match": (lambda: {"parameters": "9.weight"}, "'9.weight' matches none; near names are '[02].weight'"),
    "softmax": (lambda: {"model": nn.Sequential(mlp(), nn.Softmax(1))}, "must return logits"),
    "input_shape": (lambda: {"input_shape": (2, 3)}, r"`input_shape` must hold as many values.*\(2, 3\) \(6 values\)"),
    "statistics": (lambda: {"statistics": rows(9, 4)}, r"`statistics` must have rows .* \(5,\), as X. Got \(4,\)"),
    "callable": (lambda: {"density": lambda m, x: m(x)}, r"`density` as a callable must return .* \(B,\)"),
}  # fmt: skip


@pytest.mark.usefixtures("no_heavy_work")
@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options_and_models_are_refused_before_heavy_work(name):
    make, message = BAD_OPTIONS[name]
    with pytest.raises(ValueError, match=message):
        NFKTransformer(**{"model": mlp(), **make()}).fit(X)


def test_reference_rows_are_named_where_they_are_no_tokens():
    with pytest.raises(ValueError, match="`statistics` must hold integer tokens"):
        NFKTransformer(tokens(), statistics=np.abs(X)).fit(np.ones((12, 5), dtype=int))


def test_an_engine_that_cannot_serve_is_refused_with_the_one_that_can():
    from ..cases import data_dependent

    with pytest.raises(RuntimeError, match=r"engine='vmap' cannot serve.*Use engine='loop'"):
        NFKTransformer(data_dependent(), engine="vmap").fit(X)


def test_floats_where_the_model_takes_tokens_are_refused(estimator):
    with pytest.raises(ValueError, match=r"X must hold integer tokens.*Got float64; convert X"):
        estimator(tokens()).fit(np.abs(X))


def test_tokens_where_the_model_takes_images_are_refused(estimator):
    token_rows = np.random.default_rng(0).integers(0, 11, (12, 5))
    with pytest.raises(ValueError, match=r"must accept rows of shape \(5,\) and dtype float64.*`input_shape`"):
        estimator(convnet()).fit(token_rows)


def test_tokens_outside_the_vocabulary_are_refused(estimator):
    with pytest.raises(ValueError, match=r"must accept rows of shape \(5,\) and dtype int64.*index out of range"):
        estimator(tokens()).fit(np.full((12, 5), 99))


def test_methods_before_fit_say_so(estimator):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        estimator(mlp()).transform(X)
    for method in ("score", "residual", "log_density", "fisher_vectors", "operator"):
        with pytest.raises(NotFittedError):
            getattr(NFKTransformer(mlp()), method)(X)
    with pytest.raises(NotFittedError):
        NFKTransformer(mlp()).truncate(1)


def test_an_error_of_the_models_own_is_quoted_with_what_it_was_given(estimator):
    with pytest.raises(ValueError, match=r"must accept rows of shape \(5,\).*It raised: specify input_ids"):
        estimator(seeded(lambda: Refusing(5, 3))).fit(X)


class OfItsEncoder(Density):
    def log_density(self, model, x):
        return model.encoder(x).sum(1)


@pytest.mark.parametrize("density", [OfItsEncoder(), lambda x: x.sum(1)], ids=repr)
def test_an_error_of_the_users_density_is_not_laid_on_X(estimator, density):
    with pytest.raises(ValueError, match=r"`density` must take the model and rows of shape \(5,\)") as raised:
        estimator(mlp(), density=density).fit(X)
    assert "Check X" not in str(raised.value)


@pytest.mark.parametrize(
    "density", [Classifier, MultiLabel, Logit, Output, Embedding, Discriminator, LogProb, Sampled, OfItsEncoder]
)
def test_the_class_of_a_density_is_refused_with_how_to_make_one(estimator, density):
    with pytest.raises(TypeError, match=rf"`density` must be an instance.*pass `{density.__name__}\(\)`"):
        estimator(mlp(), density=density).fit(X)


def test_other_rows_than_in_fit_are_refused(estimator):
    options = {"n_components": 3} if estimator is NFKTransformer else {}
    fitted = estimator(convnet(), **options).fit(rows(12, 1, 8, 8))
    with pytest.raises(ValueError, match=r"X has 2 features, but \w+ is expecting 1 features"):
        fitted.transform(rows(3, 2, 8, 8))
    with pytest.raises(ValueError, match=r"rows of shape \(1, 8, 8\), as in fit. Got \(1, 9, 8\)"):
        fitted.transform(rows(3, 1, 9, 8))
    with pytest.raises(ValueError, match=r"rows of shape \(1, 8, 8\), as in fit. Got \(64,\)"):
        fitted.transform(rows(3, 64))


def test_y_of_another_length_is_refused():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        NFKTransformer(mlp(), 3).fit(X, np.zeros(5))


@pytest.mark.parametrize("n_rows", [12, 400])
def test_rows_that_are_all_the_same_give_zeros_with_a_warning(n_rows):
    with pytest.warns(UserWarning, match="the same gradient for every reference row"):
        nfk = NFKTransformer(mlp(), 3, random_state=0).fit(np.ones((n_rows, 5)))
    assert (nfk.transform(np.ones((2, 5))) == 0).all()
    assert nfk.dead_fraction_ == 1 and nfk.total_variance_ == 0 and (nfk.explained_variance_ratio_ == 0).all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="`device` must be one that torch can use here. Got 'cuda'"):
        NFKTransformer(mlp(), 3, device="cuda").fit(X)
    with pytest.raises(ValueError, match="Got 'gpu'"):
        NFKTransformer(mlp(), 3, device="gpu").fit(X)


def test_an_embedding_that_overflows_is_refused():
    # The fourth power of 1e150 is infinite, whatever the weights.
    fitted = NFKTransformer(mlp(), 3, density=lambda m, x: m(x)[:, 0] * x.sum(1) ** 4, random_state=0).fit(X)
    with pytest.raises(ValueError, match="The embedding must be finite.*check the scaling of X"):
        fitted.transform(np.full((2, 5), 1e150))


def test_one_output_column_is_taken_as_output_with_a_warning_that_names_the_alternative():
    with pytest.warns(UserWarning, match="density='output'.*density='classifier'"):
        nfk = NFKTransformer(mlp(5, 1), 3).fit(X)
    assert repr(nfk.density_) == "Output()"
