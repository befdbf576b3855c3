"""Distances of Fisher vectors and similarity of sets, against explicit Fisher vectors in float64."""

import numpy as np
import pytest
import torch
from sklearn.metrics import pairwise_distances
from torch import nn
from torch.func import functional_call, grad, vmap

from sknfk import NFKernel
from sknfk.densities import Discriminator

from ..cases import FLOAT32_RTOL, mlp, rows, seeded
from ..zoo_data import requires_zoo

DAMPING = 1e-3


def generator():
    return seeded(lambda: nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 5)), seed=1)


def kernel(**options):
    options = {"density": Discriminator(generator()), "n_reference": 40, "random_state": 0, **options}
    return NFKernel(mlp(5, 1), **options).fit(rows(10))


def explicit(model, samples, *sets):
    """Fisher vectors by the definition: gradients of the logit, mean and variance over the samples; in float64."""
    model = model.double()
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def logit(values, x):
        return functional_call(model, values, x[None]).squeeze()

    def scores(X):
        by_name = vmap(grad(logit), (None, 0))(parameters, torch.as_tensor(X, dtype=torch.float64))
        return torch.cat([g.flatten(1) for g in by_name.values()], 1).numpy()

    J = scores(samples)
    z, information = J.mean(0), J.var(0)
    D = np.where(information > 1e-12 * np.square(J).mean(0), (information + DAMPING * information.mean()) ** -0.5, 0)
    return [(scores(X) - z) * D for X in sets]


def samples_of(fitted):
    """The generator's samples that the fit took, with the seed it takes."""
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    drawn = fitted.density_.sample(fitted.module_, fitted.n_reference, torch.Generator().manual_seed(seed + 1))
    return drawn.detach().double()


A, B = rows(12, seed=1), rows(9, seed=2) + 0.5


@pytest.mark.parametrize("normalize", [None, "l2"])
def test_distances_are_those_of_the_explicit_fisher_vectors(normalize):
    fitted = kernel(normalize=normalize)
    V, W = explicit(mlp(5, 1), samples_of(fitted), A, B)
    if normalize:
        V, W = (U / np.linalg.norm(U, axis=1, keepdims=True) for U in (V, W))
    np.testing.assert_allclose(fitted.fisher_distance(A, B), pairwise_distances(V, W), rtol=1e-8)
    own = fitted.fisher_distance(A)
    np.testing.assert_allclose(own, pairwise_distances(V), rtol=1e-8)
    assert not np.diag(own).any()


def test_similarity_of_sets_is_that_of_their_explicit_means():
    fitted = kernel()
    V, W = explicit(mlp(5, 1), samples_of(fitted), A, B)
    expected = np.exp(-10 * np.mean(np.square(V.mean(0) - W.mean(0))))
    assert fitted.fisher_similarity(A, B) == pytest.approx(expected, rel=1e-10)
    assert fitted.fisher_similarity(A) == pytest.approx(np.exp(-10 * np.mean(np.square(V.mean(0)))), rel=1e-10)


def test_a_set_is_like_itself_and_the_samples_like_the_generator():
    fitted = kernel()
    assert fitted.fisher_similarity(A, A[::-1]) == pytest.approx(1)
    assert fitted.fisher_similarity(samples_of(fitted).numpy()) == pytest.approx(1)
    assert fitted.fisher_similarity(A, B) == pytest.approx(fitted.fisher_similarity(B, A))
    assert fitted.fisher_similarity(A, A + 3) < fitted.fisher_similarity(A, A + 0.3)


def test_rows_of_another_shape_are_refused():
    fitted = kernel()
    for method in (fitted.fisher_distance, fitted.fisher_similarity):
        with pytest.raises(ValueError, match="4 features, but NFKernel is expecting 5"):
            method(A, rows(3, 4))


@requires_zoo
def test_on_a_trained_gan_float32_agrees_with_explicit_float64():
    from zoo import datasets, models

    discriminator, maker = models.mnist_mlp_gan()
    images = datasets.mnist("test")[0][:40].reshape(40, -1).astype(np.float32) / 127.5 - 1
    fitted = NFKernel(discriminator, density=Discriminator(maker), n_reference=128, random_state=0).fit(images[:5])
    V, W = explicit(discriminator, samples_of(fitted), images[:20], images[20:])
    distance = fitted.fisher_distance(images[:20], images[20:])
    np.testing.assert_allclose(distance, pairwise_distances(V, W), rtol=10 * FLOAT32_RTOL)
    expected = np.exp(-10 * np.mean(np.square(V.mean(0) - W.mean(0))))
    assert fitted.fisher_similarity(images[:20], images[20:]) == pytest.approx(expected, rel=10 * FLOAT32_RTOL)
