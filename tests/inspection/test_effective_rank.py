"""Ranks of activations and Fisher vectors against explicit decompositions in float64."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from sknfk import NFKernel
from sknfk.densities import Discriminator
from sknfk.inspection import effective_rank, layer_spectra, stable_rank, variance_share

from ..cases import FLOAT64_RTOL, convnet, mlp, recurrent, rows, tokens


def explicit(activations):
    """Singular values of the centred rows over sqrt(N)."""
    flat = activations.reshape(len(activations), -1)
    return np.linalg.svd(flat - flat.mean(0), compute_uv=False) / len(flat) ** 0.5


@pytest.mark.parametrize("batch_size", [1, 7, 100])
@pytest.mark.parametrize("n_rows", [3, 10, 90])
def test_spectra_are_those_of_the_explicit_activations(n_rows, batch_size):
    model, X = convnet(), rows(n_rows, 1, 8, 8)
    found = layer_spectra(model, X, ["2", "3", "5"], batch_size=batch_size)
    for name, stop in (("2", 3), ("3", 4), ("5", 6)):
        with torch.no_grad():
            expected = explicit(model[:stop](torch.from_numpy(X)).numpy())
        assert found[name].shape == expected.shape
        np.testing.assert_allclose(found[name], expected, atol=1e-12 * expected[0])


def test_small_values_keep_digits_that_second_moments_would_lose():
    spread = np.array([1.0, 1e-4, 1e-10])
    X = rows(60, 3) * spread + 1e3 * spread
    found = layer_spectra(nn.Sequential(nn.Identity(), mlp(3)), X, "0")["0"]
    np.testing.assert_allclose(found, explicit(X), rtol=1e-5)


def test_squares_are_the_variances_of_principal_components():
    X = rows(40, 6)
    found = layer_spectra(nn.Sequential(nn.Identity(), mlp(6)), X, "0")["0"]
    np.testing.assert_allclose(np.square(found) * 40 / 39, PCA().fit(X).explained_variance_, rtol=1e-10)


@pytest.mark.parametrize("statistics", ["data", "model"])
def test_fisher_vectors_stand_beside_the_layers(statistics):
    model, X = mlp(5, 1), rows(30)
    kernel = NFKernel(model, density=Discriminator(mlp(3, 5)), statistics=statistics, n_reference=50, random_state=0)
    spectra = layer_spectra(model, X, ["0", "1"], kernel=kernel.fit(X))
    assert list(spectra) == ["0", "1", "Fisher vectors"]
    Z = torch.autograd.functional.jacobian  # slow: one row at a time
    parameters = dict(model.named_parameters())

    def score(x):
        def f(*values):
            return torch.func.functional_call(model, dict(zip(parameters, values, strict=True)), x[None])[0, 0]

        return torch.cat([g.flatten() for g in Z(f, tuple(p.detach() for p in parameters.values()))])

    J = torch.stack([score(x) for x in torch.from_numpy(X)]).numpy()
    expected = explicit(J * kernel.scale_)
    np.testing.assert_allclose(spectra["Fisher vectors"], expected, atol=1e-6 * expected[0])


def test_flat_rows_tokens_and_layers_of_several_outputs_are_read():
    X = rows(12, 1, 8, 8)
    flat = layer_spectra(convnet(), X.reshape(12, 64), "0", input_shape=(1, 8, 8))["0"]
    np.testing.assert_allclose(flat, layer_spectra(convnet(), X, "0")["0"], rtol=1e-12)
    integers = np.random.default_rng(0).integers(0, 11, size=(9, 5))
    assert len(layer_spectra(tokens(), integers, "embedding")["embedding"]) == 9
    assert len(layer_spectra(recurrent(), rows(30), "lstm")["lstm"]) == 20


def test_the_model_stays_as_it_is():
    model = convnet().train()
    layer_spectra(model, rows(5, 1, 8, 8), "2")
    assert model.training and not model[2]._forward_hooks
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_tensor_stays_as_it_is_where_the_first_layer_works_in_place():
    X = torch.from_numpy(rows(9))
    before = X.clone()
    found = layer_spectra(nn.Sequential(nn.ReLU(inplace=True), mlp()), X, "0", device="cpu")["0"]
    assert torch.equal(X, before)
    np.testing.assert_allclose(found, explicit(before.relu().numpy()), rtol=1e-12)


def test_an_unknown_layer_is_refused_with_near_names():
    with pytest.raises(
        ValueError, match="`layers` must name layers of the module. Got 'embeding'; near names are 'emb"
    ):
        layer_spectra(tokens(), np.zeros((3, 5), dtype=int), "embeding")


def test_a_layer_that_is_not_called_is_refused():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(5, 2), nn.Linear(5, 2)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(ValueError, match="'unused' gave 0 rows for 4 examples"):
        layer_spectra(Unused(), rows(4), "unused")


def test_effective_rank_is_the_exponential_of_the_entropy():
    s = rows(9)[:, 0] ** 2
    p = s / s.sum()
    assert effective_rank(s) == pytest.approx(float(np.prod(p**-p)), rel=FLOAT64_RTOL)
    assert effective_rank(7 * s) == pytest.approx(effective_rank(s), rel=FLOAT64_RTOL)
    assert effective_rank([2.0, 2.0, 0.0]) == pytest.approx(2)


def test_stable_rank_and_share_are_those_of_the_explicit_matrix():
    A = rows(20, 6)
    s = np.linalg.svd(A, compute_uv=False)
    assert stable_rank(s) == pytest.approx(np.linalg.norm(A) ** 2 / np.linalg.norm(A, 2) ** 2, rel=FLOAT64_RTOL)
    pca = PCA().fit(A)
    s = pca.singular_values_
    assert variance_share(s, 3) == pytest.approx(pca.explained_variance_ratio_[:3].sum(), rel=FLOAT64_RTOL)
    assert variance_share(s[::-1], 3) == variance_share(s, 3)


def test_what_does_not_vary_has_rank_zero():
    assert effective_rank([0.0, 0.0]) == stable_rank([0.0]) == 0
    assert variance_share([0.0, 0.0], 1) == 1


@pytest.mark.parametrize("n_components", [0, 4])
def test_more_components_than_values_are_refused(n_components):
    with pytest.raises(ValueError, match=f"between 1 and the number of singular values, 3. Got {n_components}"):
        variance_share([3, 2, 1], n_components)


@pytest.mark.parametrize("values", [[], [1.0, -1.0], [np.nan]])
def test_what_are_no_singular_values_is_refused(values):
    for measure in (effective_rank, stable_rank, lambda s: variance_share(s, 1)):
        with pytest.raises(ValueError, match="`singular_values` must be finite, not negative, and at least one"):
            measure(values)
