"""The rank-one diagonal of each layer, and Gram matrices from the factors it leaves separable."""

import numpy as np
import pytest
import torch
from torch import nn

from sknfk import NFKernel, NFKTransformer
from sknfk.batches import Batches
from sknfk.densities import Classifier
from sknfk.fisher import FisherStatistics, FisherVectors, estimate_moments, estimate_statistics
from sknfk.fisher._product_gram import product_gram, rank_one_factors
from sknfk.gradients import LayerwiseEngine, LogDensityModel, ParameterSpace, make_engine

from ..cases import FLOAT64_RTOL, convnet, mlp, rows, tokens

CPU = torch.device("cpu")
GRAM_RTOL = 1e-12  # some hundred roundings of float64
SPACE = ParameterSpace(("weight", "bias", "kernel"), (torch.Size([3, 4]), torch.Size([3]), torch.Size([2, 1, 2, 3])))
SHAPES = {"weight": (3, 4), "kernel": (2, 6)}


def statistics_of(information):
    return FisherStatistics(torch.zeros_like(information), information)


def positive(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1


def layers_of(d):
    return {name: layer.flatten(1) for name, layer in SPACE.split(d).items() if layer.ndim > 1}


@pytest.mark.parametrize("damping", [0.0, 1e-3, 0.5])
def test_the_scale_of_each_layer_is_an_outer_product(damping):
    d = statistics_of(positive(SPACE.n_parameters)).scale("factored", damping, SPACE)
    for name, layer in layers_of(d).items():
        assert layer.shape == SHAPES[name]
        values = torch.linalg.svdvals(layer)
        assert float(values[1]) < GRAM_RTOL * float(values[0])


@pytest.mark.parametrize("damping", [0.0, 1e-3, 0.5])
def test_it_is_the_inverse_root_of_the_means_over_rows_and_over_columns(damping):
    information = positive(SPACE.n_parameters)
    d = statistics_of(information).scale("factored", damping, SPACE)
    added = damping * information.mean()
    for name, layer in layers_of(d).items():
        of_layer = SPACE.split(information)[name].flatten(1)
        r, c, m = of_layer.mean(1, keepdim=True) + added, of_layer.mean(0) + added, of_layer.mean() + added
        torch.testing.assert_close(layer, (r * c / m).rsqrt(), rtol=GRAM_RTOL, atol=0)


def test_it_is_the_diagonal_where_the_information_is_the_same_everywhere_or_of_rank_one():
    uniform = statistics_of(torch.full((SPACE.n_parameters,), 0.7, dtype=torch.float64))
    for damping in (0.0, 1e-3, 0.5):
        found, expected = (uniform.scale(fisher, damping, SPACE) for fisher in ("factored", "diag"))
        torch.testing.assert_close(found, expected, rtol=GRAM_RTOL, atol=0)
    parts = [torch.outer(positive(3), positive(4, seed=1)), positive(3, seed=2), torch.outer(positive(2), positive(6))]
    rank_one = statistics_of(torch.cat([part.flatten() for part in parts]))
    found, expected = (rank_one.scale(fisher, 0.0, SPACE) for fisher in ("factored", "diag"))
    torch.testing.assert_close(found, expected, rtol=GRAM_RTOL, atol=0)
    damped = rank_one.scale("factored", 0.5, SPACE)  # what is added is not of rank one with the rest
    assert not torch.allclose(damped, rank_one.scale("diag", 0.5, SPACE), rtol=1e-3)


@pytest.mark.parametrize("damping", [0.0, 1e-3])
def test_dead_rows_columns_and_layers_are_scaled_to_zero(damping):
    information = positive(SPACE.n_parameters)
    layers = SPACE.split(information)
    layers["weight"][1] = 0
    layers["weight"][:, 2] = 0
    layers["kernel"][:] = 0
    layers["bias"][0] = 0
    statistics = statistics_of(SPACE.flatten([layer[None] for layer in layers.values()])[0])
    d = SPACE.split(statistics.scale("factored", damping, SPACE))
    assert bool(torch.isfinite(torch.cat([layer.flatten() for layer in d.values()])).all())
    live = torch.ones(3, 4, dtype=torch.bool)
    live[1], live[:, 2] = False, False
    assert torch.equal(d["weight"] > 0, live)
    assert not bool(d["kernel"].any())
    assert (d["bias"] > 0).tolist() == [False, True, True]


def test_parameters_of_one_axis_are_scaled_as_by_the_diagonal():
    statistics = statistics_of(positive(SPACE.n_parameters))
    factored, diagonal = (SPACE.split(statistics.scale(fisher, 1e-3, SPACE)) for fisher in ("factored", "diag"))
    assert torch.equal(factored["bias"], diagonal["bias"])
    assert not torch.allclose(factored["weight"], diagonal["weight"])


def cosine(A, B):
    return float((A * B).sum() / (np.linalg.norm(A) * np.linalg.norm(B)))


def test_kernels_are_close_to_those_of_the_diagonal():
    X = rows(200)
    factored, diagonal = (NFKernel(mlp(), fisher=fisher).fit_transform(X) for fisher in ("factored", "diag"))
    assert 0.99 < cosine(factored, diagonal) < 1 - 1e-6


@pytest.mark.parametrize("center", [True, False])
def test_the_estimators_embed_by_it(center):
    X, X_new = rows(60, 1, 8, 8), rows(9, 1, 8, 8, seed=1)
    kernel = NFKernel(convnet(), fisher="factored", center=center).fit(X)
    nfk = NFKTransformer(convnet(), 60, fisher="factored", center=center, random_state=0).fit(X)
    V, V_new = nfk.fisher_vectors(X), nfk.fisher_vectors(X_new)
    np.testing.assert_allclose(kernel.transform(X_new), V_new @ V.T, rtol=FLOAT64_RTOL, atol=1e-8)
    diagonal = NFKTransformer(convnet(), 60, center=center, random_state=0).fit(X)
    J_less_z = diagonal.fisher_vectors(X) / np.where(diagonal.scale_ > 0, diagonal.scale_, 1)
    np.testing.assert_allclose(V, J_less_z * nfk.scale_, rtol=FLOAT64_RTOL, atol=1e-8)
    Z = nfk.transform(X)
    assert np.linalg.norm(Z @ Z.T - V @ V.T) < 1e-9 * np.linalg.norm(V @ V.T)  # all of 60 rows' components


def vectors_of(model, X, fisher, *, center=True, reference=None, batch_size=7, dtype=torch.float64, engine="layerwise"):
    model = model.to(dtype)
    space = ParameterSpace.of(model)
    engine = make_engine(engine, LogDensityModel(model, Classifier(), space))
    cast = None if X.dtype == np.int64 else dtype
    batches = Batches(X, batch_size, CPU, cast, X.shape[1:])
    others = batches if reference is None else Batches(reference, batch_size, CPU, cast, X.shape[1:])
    statistics = estimate_statistics(estimate_moments(engine, others, space), center=center)
    scale = statistics.scale(fisher, 1e-3, space)
    return FisherVectors(engine, batches, statistics.mean_score, scale, dtype)


def by_factors(V, max_bytes=2**30):
    return product_gram(V.blocks(), V.mean_score, V.scale, max_bytes)


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("reference", [None, rows(11, seed=3)], ids=["own mean", "another mean"])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("fisher", ["factored", "identity"])
def test_the_gram_matrix_by_factors_is_that_of_the_formed_fisher_vectors(fisher, center, reference):
    V = vectors_of(mlp(), rows(45), fisher, center=center, reference=reference)
    found, formed = by_factors(V), V.rows()
    assert found.dtype == torch.float64
    assert relative(found, formed @ formed.T) < GRAM_RTOL
    assert relative(V.gram(), formed @ formed.T) < GRAM_RTOL


def test_in_float32_its_sums_are_in_float64():
    X = rows(45)
    found = by_factors(vectors_of(mlp(), X, "factored", dtype=torch.float32))
    formed = vectors_of(mlp(), X, "factored").rows()
    assert found.dtype == torch.float64
    assert relative(found, formed @ formed.T) < 1e-6  # roundings of the factors, in float32


def test_a_scale_that_is_no_outer_product_is_left_to_formed_fisher_vectors():
    V = vectors_of(mlp(), rows(45), "diag")
    formed = V.rows()
    assert by_factors(V) is None
    assert relative(V.gram(), formed @ formed.T) < GRAM_RTOL
    V.scale = V.scale.clone().fill_(2.0)  # a diagonal that is one
    assert by_factors(V) is not None


def test_factors_beyond_their_memory_are_given_up():
    V = vectors_of(mlp(), rows(45), "factored")
    n_bytes = 45 * 8 * (5 + 7 + 7 + 7 + 3 + 3)  # inputs, signals and bias of either layer
    assert by_factors(V, n_bytes) is not None
    assert by_factors(V, n_bytes - 1) is None


@pytest.mark.parametrize("engine", ["vmap", "loop"])
def test_gradients_without_factors_are_left_to_formed_fisher_vectors(engine):
    V = vectors_of(mlp(), rows(20), "factored", engine=engine)
    formed = V.rows()
    assert by_factors(V) is None
    assert relative(V.gram(), formed @ formed.T) < GRAM_RTOL


TOKENS = np.random.default_rng(0).integers(0, 11, size=(20, 5))
FORMED_IN_PART = {"convnet": lambda: (convnet(), rows(20, 1, 8, 8)), "tokens": lambda: (tokens(), TOKENS)}


@pytest.mark.parametrize("fisher", ["factored", "identity", "diag"])
@pytest.mark.parametrize("name", FORMED_IN_PART)
def test_weights_used_many_times_give_the_right_gram_matrix(name, fisher):
    model, X = FORMED_IN_PART[name]()
    V = vectors_of(model, X, fisher)
    formed = V.rows()
    found = by_factors(V)
    assert found is None or relative(found, formed @ formed.T) < GRAM_RTOL
    assert relative(V.gram(), formed @ formed.T) < GRAM_RTOL


def test_a_part_that_is_formed_goes_through_in_chunks(monkeypatch):
    monkeypatch.setattr("sknfk.fisher._product_gram.CHUNK", 5)
    V = vectors_of(convnet(), rows(20, 1, 8, 8), "identity")
    formed = V.rows()
    assert relative(by_factors(V), formed @ formed.T) < GRAM_RTOL


def test_factors_of_a_matrix_are_found_where_there_are_some():
    matrix = torch.outer(positive(4), positive(6, seed=1))
    u, v = rank_one_factors(matrix)
    torch.testing.assert_close(torch.outer(u, v), matrix, rtol=GRAM_RTOL, atol=0)
    matrix[2, 3] *= 1.01
    assert rank_one_factors(matrix) is None
    assert [float(f.abs().sum()) for f in rank_one_factors(torch.zeros(2, 3))] == [0.0, 0.0]
    signed = torch.outer(torch.tensor([1.0, -3.0]), torch.tensor([2.0, 0.0, -1.0]))
    torch.testing.assert_close(torch.outer(*rank_one_factors(signed)), signed)


@pytest.fixture
def n_rows_seen(monkeypatch):
    sizes, form = [], LayerwiseEngine.__call__

    def counting(self, x):
        sizes.append(len(x))
        return form(self, x)

    monkeypatch.setattr(LayerwiseEngine, "__call__", counting)
    return sizes


def test_exact_makes_one_pass_for_the_gram_matrix_and_finds_the_same_components(n_rows_seen, monkeypatch):
    X = rows(60)
    options = {"solver": "exact", "fisher": "factored", "batch_size": 20, "random_state": 0, "engine": "layerwise"}
    by_products = NFKTransformer(mlp(), 5, **options).fit(X)
    # Three batches each for the statistics, the Gram matrix and the components.
    assert [n for n in n_rows_seen if n > 3] == [20] * 9
    monkeypatch.setattr("sknfk.fisher._vectors.product_gram", lambda *args: None)
    formed = NFKTransformer(mlp(), 5, **options).fit(X)
    np.testing.assert_allclose(by_products.components_, formed.components_, rtol=0, atol=1e-9)
    np.testing.assert_allclose(by_products.singular_values_, formed.singular_values_, rtol=FLOAT64_RTOL)


def test_a_model_without_matrices_is_served():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(5))

        def forward(self, x):
            return x * self.scale

    X = rows(30)
    factored, diagonal = (
        NFKTransformer(Scaled(), 3, fisher=fisher, solver="exact", random_state=0, dtype="float64").fit(X)
        for fisher in ("factored", "diag")
    )
    np.testing.assert_allclose(factored.components_, diagonal.components_, rtol=0, atol=1e-9)
