"""Several threads that share a fitted estimator, or train a net, find what one alone finds."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import GradientFeatureClassifier, NFKernel, NFKTransformer
from sknfk.gradients import ENGINES

from ..cases import FLOAT32_RTOL, FLOAT64_RTOL, mlp, rows

X, Z = rows(60), rows(120, seed=1)
y = np.arange(60) % 3
ATOL = 1e-12  # of embeddings and logits of order one


def in_threads(work, n_calls=8):
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda _: work(), range(n_calls)))


@pytest.fixture(autouse=True)
def quick_turns():
    """Threads take turns so often that they meet within any step of the work."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def assert_as_alone(estimator, work):
    alone = work()
    for found in in_threads(work):
        np.testing.assert_allclose(found, alone, rtol=FLOAT64_RTOL, atol=ATOL)
    for parameter in estimator.module_.parameters():
        assert isinstance(parameter, nn.Parameter) and not parameter.requires_grad


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_that_share_a_transformer_embed_as_one_alone(engine):
    nfk = NFKTransformer(mlp(), 3, engine=engine, batch_size=10, random_state=0).fit(X)
    assert_as_alone(nfk, lambda: nfk.transform(Z))


def test_threads_that_share_a_kernel_find_it_as_one_alone():
    kernel = NFKernel(mlp(), batch_size=10).fit(X)
    assert_as_alone(kernel, lambda: kernel.transform(Z))


def test_threads_that_share_a_gradient_classifier_find_logits_as_one_alone():
    classifier = GradientFeatureClassifier(mlp(), batch_size=10, random_state=0).fit(X, y)
    assert_as_alone(classifier, lambda: classifier.decision_function(Z))


def test_threads_that_fit_by_forward_mode_find_what_one_alone_finds():
    model = mlp()

    def fitted():
        return NFKTransformer(model, 3, engine="jvp", batch_size=10, random_state=0).fit(X).transform(Z)

    alone = fitted()
    for found in in_threads(fitted, n_calls=4):
        np.testing.assert_allclose(found, alone, rtol=FLOAT64_RTOL, atol=ATOL)


def test_threads_that_train_a_net_find_what_one_alone_finds_and_leave_the_generator_as_it_was():
    options = {"iterator_train__shuffle": True, "batch_size": 8, "max_epochs": 3, "train_split": None, "verbose": 0}
    net = NeuralNetClassifier(mlp().float(), criterion=nn.CrossEntropyLoss, **options)

    def fitted():
        return NFKTransformer(net, 3, solver="krylov", random_state=0).fit(X, y).singular_values_

    state = torch.get_rng_state()
    alone = fitted()
    for found in in_threads(fitted, n_calls=4):
        np.testing.assert_allclose(found, alone, rtol=FLOAT32_RTOL)
    assert torch.equal(torch.get_rng_state(), state)
