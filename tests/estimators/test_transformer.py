"""The embedding against the explicit singular value decomposition."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import svds
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sknfk import NFKTransformer
from sknfk.densities import Classifier, Logit
from sknfk.gradients import LogDensityModel, LoopEngine, ParameterSpace
from sknfk.solvers import SOLVERS

from ..cases import FLOAT64_RTOL, MODELS, convnet, data_dependent, mlp, rows

# Solvers that stop at a tolerance are asked for one far below this.
SOLVER_RTOL = 1e-6


def explicit_fisher_vectors(model, X, *, fisher="diag", center=True, damping=1e-3, reference=None, density=None):
    """V by its definition, from plain autograd on each example."""
    loop = LoopEngine(LogDensityModel(model, density or Classifier(), ParameterSpace.of(model)))
    J = loop(torch.from_numpy(X)).rows()
    R = J if reference is None else loop(torch.from_numpy(reference)).rows()
    z = R.mean(0) if center else torch.zeros(R.shape[1], dtype=torch.float64)
    information = (R - z).square().mean(0)
    live = information > 1e-12 * R.square().mean(0)
    information = torch.where(live, information, 0)
    d = torch.where(live, (information + damping * information.mean()).rsqrt(), 0)
    return ((J - z) * (d if fisher == "diag" else 1)).numpy()


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def tight(model, n_components, **options):
    return NFKTransformer(model, n_components, tol=1e-14, max_sweeps=30, random_state=0, **options)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("fisher", ["diag", "identity"])
@pytest.mark.parametrize("center", [True, False])
def test_fisher_vectors_follow_their_definition_for_every_model(name, fisher, center):
    model, X = MODELS[name]()
    nfk = tight(model, 2, fisher=fisher, center=center).fit(X)
    expected = explicit_fisher_vectors(model, X, fisher=fisher, center=center)
    assert relative(nfk.fisher_vectors(X), expected) < FLOAT64_RTOL


@pytest.mark.filterwarnings("ignore:solver='lobpcg' did not meet:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_gives_the_leading_part_of_the_explicit_decomposition(solver, seed):
    model, X, K = convnet(), rows(40, 1, 8, 8, seed=seed), 5
    U, S, _ = np.linalg.svd(explicit_fisher_vectors(model, X), full_matrices=False)
    nfk = tight(model, K, solver=solver).set_params(random_state=seed, n_oversamples=20)
    Z = nfk.fit_transform(X)
    best = (U[:, :K] * S[:K]) @ (U[:, :K] * S[:K]).T
    tolerance = SOLVER_RTOL if solver != "lobpcg" else 1e-4  # scipy's lobpcg stops at its own tolerance
    assert relative(nfk.singular_values_, S[:K]) < tolerance
    assert relative(Z @ Z.T, best) < tolerance
    np.testing.assert_allclose(nfk.components_ @ nfk.components_.T, np.eye(K), atol=1e-9)
    assert nfk.solver_ == solver


def test_embedding_of_new_examples_is_their_fisher_vectors_times_the_components():
    model, X, X_new = convnet(), rows(40, 1, 8, 8), rows(7, 1, 8, 8, seed=9)
    nfk = tight(model, 6).fit(X)
    expected = nfk.fisher_vectors(X_new) @ nfk.components_.T
    assert relative(nfk.transform(X_new), expected) < FLOAT64_RTOL


def test_fit_transform_equals_transform():
    nfk = NFKTransformer(convnet(), 6, random_state=0)
    X = rows(40, 1, 8, 8)
    assert relative(nfk.fit_transform(X), nfk.transform(X)) < FLOAT64_RTOL


def test_fitted_attributes_are_those_of_the_explicit_matrix():
    model, X = convnet(), rows(40, 1, 8, 8)
    V = explicit_fisher_vectors(model, X)
    nfk = tight(model, 6).fit(X)
    S = np.linalg.svd(V, compute_uv=False)[:6]
    assert nfk.total_variance_ == pytest.approx(np.square(V).sum(1).mean())
    np.testing.assert_allclose(nfk.explained_variance_, S**2 / 40, rtol=SOLVER_RTOL)
    np.testing.assert_allclose(nfk.explained_variance_ratio_, S**2 / np.square(V).sum(), rtol=SOLVER_RTOL)
    assert nfk.n_parameters_ == V.shape[1] == len(nfk.mean_score_) == len(nfk.information_)
    assert nfk.parameter_names_ == [name for name, _ in model.named_parameters()]
    assert nfk.dead_fraction_ == pytest.approx(np.mean(np.square(V).sum(0) == 0))
    assert nfk.density_ == Classifier()
    assert nfk.n_components_ == 6 and nfk.components_.shape == (6, V.shape[1])


def test_score_is_the_captured_share_and_residual_what_is_left():
    model, X, X_new = convnet(), rows(40, 1, 8, 8), rows(9, 1, 8, 8, seed=5)
    nfk = tight(model, 6).fit(X)
    V = nfk.fisher_vectors(X_new)
    captured = np.square(V @ nfk.components_.T).sum(1)
    assert nfk.score(X_new) == pytest.approx(captured.sum() / np.square(V).sum())
    np.testing.assert_allclose(nfk.residual(X_new), np.square(V).sum(1) - captured, rtol=1e-8, atol=1e-8)
    assert nfk.score(X) == pytest.approx(nfk.explained_variance_ratio_.sum(), rel=1e-6)


def test_rank_k_is_the_first_k_columns_and_truncate_cuts_to_it():
    X = rows(40, 1, 8, 8)
    wide, narrow = tight(convnet(), 9).fit(X), tight(convnet(), 4).fit(X)
    assert relative(narrow.transform(X), wide.transform(X)[:, :4]) < 1e-5
    cut = wide.truncate(4)
    np.testing.assert_allclose(cut.transform(X), wide.transform(X)[:, :4], rtol=1e-12, atol=1e-12)  # other products
    assert (cut.n_components, cut.n_components_, wide.n_components_) == (4, 4, 9)
    assert list(cut.get_feature_names_out()) == [f"nfktransformer{i}" for i in range(4)]
    with pytest.raises(ValueError, match=r"between 1 and the fitted 9\. Got 10"):
        wide.truncate(10)


def test_unit_length_rows_give_the_cosine_kernel():
    X = rows(40, 1, 8, 8)
    plain, unit = tight(convnet(), 6).fit(X), tight(convnet(), 6, normalize="l2").fit(X)
    Z = plain.transform(X)
    assert relative(unit.transform(X), Z / np.linalg.norm(Z, axis=1, keepdims=True)) < FLOAT64_RTOL


def test_whitened_components_have_unit_variance_and_tiny_ones_are_not_amplified():
    X = np.outer(rows(40, 1)[:, 0], np.ones(5)) + 1e-5 * rows(40)  # one direction, and a whisper of four more
    nfk = tight(mlp(), 30, whiten=True, fisher="identity").fit(X)
    second_moment = np.square(nfk.transform(X)).mean(0)
    strong = nfk.singular_values_ > 1e-3 * nfk.singular_values_[0]
    assert 0 < strong.sum() < 30
    np.testing.assert_allclose(second_moment[strong], 1, rtol=1e-6)
    assert (second_moment[~strong] < 1).all()


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_share_keeps_the_fewest_components_that_reach_it(share):
    X = rows(60, 1, 8, 8)
    nfk = tight(convnet(), share).fit(X)
    captured = np.cumsum(nfk.explained_variance_ratio_)
    assert captured[-1] >= share > (captured[-2] if len(captured) > 1 else 0)


def test_a_share_out_of_reach_warns_with_what_was_reached():
    with pytest.warns(UserWarning, match=r"share"):
        nfk = NFKTransformer(convnet(), 0.999, max_components=3, random_state=0).fit(rows(60, 1, 8, 8))
    assert nfk.n_components_ == 3


def test_more_components_than_rows_are_clipped_with_a_warning():
    with pytest.warns(UserWarning, match=r"at most min\(n_samples, n_parameters\) = 12\. Got 64; using 12"):
        nfk = NFKTransformer(convnet(), random_state=0).fit(rows(12, 1, 8, 8))
    assert nfk.n_components_ == 12
    assert np.isfinite(nfk.transform(rows(12, 1, 8, 8))).all()


def test_statistics_of_given_rows_centre_and_scale_the_fisher_vectors():
    model, X, reference = convnet(), rows(40, 1, 8, 8), rows(25, 1, 8, 8, seed=3)
    nfk = tight(model, 5, statistics=reference).fit(X)
    V = explicit_fisher_vectors(model, X, reference=reference)
    assert relative(nfk.fisher_vectors(X), V) < FLOAT64_RTOL
    assert nfk.total_variance_ == pytest.approx(np.square(V).sum(1).mean())
    np.testing.assert_allclose(nfk.singular_values_, np.linalg.svd(V, compute_uv=False)[:5], rtol=SOLVER_RTOL)


@pytest.mark.parametrize("batch_size", [1, 7, 64, "auto"])
def test_batch_size_does_not_matter(batch_size):
    X = rows(40, 1, 8, 8)
    expected = NFKTransformer(convnet(), 6, random_state=0, batch_size=40).fit_transform(X)
    found = NFKTransformer(convnet(), 6, random_state=0, batch_size=batch_size).fit_transform(X)
    assert relative(found, expected) < FLOAT64_RTOL


def test_row_order_does_not_matter():
    X = rows(120, 1, 8, 8)
    order = np.random.default_rng(0).permutation(120)
    for solver in ("krylov", "subspace", "exact"):
        nfk = NFKTransformer(convnet(), 6, solver=solver, random_state=0)
        assert relative(clone_fit(nfk, X[order]).transform(X), clone_fit(nfk, X).transform(X)) < FLOAT64_RTOL


def clone_fit(nfk, X):
    return clone(nfk).fit(X)


def test_two_fits_with_the_same_random_state_are_bitwise_equal():
    X = rows(120, 1, 8, 8)
    for solver in SOLVERS:
        first, second = (NFKTransformer(convnet(), 6, solver=solver, random_state=3).fit(X) for _ in range(2))
        assert np.array_equal(first.components_, second.components_), solver
        assert np.array_equal(first.transform(X), second.transform(X)), solver


def test_an_unfinished_solver_warns_with_its_estimate():
    with pytest.warns(ConvergenceWarning, match="max_sweeps"):
        nfk = NFKTransformer(convnet(), 20, solver="krylov", tol=1e-12, max_sweeps=2, random_state=0)
        nfk.fit(rows(200, 1, 8, 8))
    assert nfk.error_estimate_ > 1e-12
    assert nfk.n_sweeps_ == 2


@pytest.mark.parametrize("solver", ["krylov", "subspace"])
def test_fit_visits_each_batch_once_for_the_statistics_and_once_for_each_sweep(visited, solver):
    X = rows(90, 1, 8, 8)
    options = {"solver": solver, "batch_size": 32, "gradient_cache": None, "random_state": 0}
    nfk = NFKTransformer(convnet(), 6, **options).fit(X)
    one_pass = [32, 32, 26]
    assert nfk.n_sweeps_ > 1
    assert visited == one_pass * (1 + nfk.n_sweeps_)
    visited.clear()
    nfk.transform(X)
    assert visited == one_pass


@pytest.mark.parametrize("solver", ["krylov", "subspace"])
def test_fit_visits_each_batch_once_where_gradients_are_kept(visited, solver):
    X = rows(150, 1, 8, 8)
    options = {"solver": solver, "batch_size": 64, "gradient_cache": "device", "random_state": 0}
    nfk = NFKTransformer(convnet(), 6, **options).fit(X)
    one_pass = [64, 64, 22]
    assert nfk.n_sweeps_ > 1
    assert visited == one_pass
    visited.clear()
    nfk.transform(X)
    assert visited == one_pass


def test_paper_solver_takes_forward_mode_products_unless_told_otherwise():
    X = rows(30)
    assert NFKTransformer(mlp(), 4, solver="paper", random_state=0).fit(X).engine_ == "jvp"
    assert NFKTransformer(mlp(), 4, solver="paper", engine="vmap", random_state=0).fit(X).engine_ == "vmap"


@pytest.mark.parametrize("options", [{"solver": "paper"}, {"engine": "jvp"}])
def test_products_by_forward_mode_serve_models_that_vmap_refuses(options):
    X = rows(30)
    nfk = NFKTransformer(data_dependent(), 4, random_state=0, **options).fit(X)
    assert nfk.engine_ == "jvp"
    expected = NFKTransformer(data_dependent(), 4, engine="loop", random_state=0).fit(X)
    assert nfk.score(X) == pytest.approx(expected.score(X), rel=1e-6)
    assert relative(nfk.fisher_vectors(X), expected.fisher_vectors(X)) < FLOAT64_RTOL


def test_log_density_is_the_densitys_value():
    model, X = mlp(), rows(9)
    nfk = NFKTransformer(model, 3, density=Logit(1), random_state=0).fit(X)
    np.testing.assert_allclose(nfk.log_density(X), model(torch.from_numpy(X))[:, 1].detach().numpy())


def test_operator_serves_scipys_svds():
    X = rows(40, 1, 8, 8)
    nfk = tight(convnet(), 6).fit(X)
    for solver in ("arpack", "propack"):
        values = np.sort(svds(nfk.operator(X), k=6, solver=solver)[1])[::-1]
        np.testing.assert_allclose(values, nfk.singular_values_, rtol=SOLVER_RTOL)


def test_parameters_restrict_the_features_to_a_part_of_the_model():
    model, X = mlp(), rows(30)
    nfk = tight(model, 3, parameters="2.*").fit(X)
    assert nfk.parameter_names_ == ["2.weight", "2.bias"]
    full = NFKTransformer(model, 3, fisher="identity", random_state=0).fit(X)
    part = NFKTransformer(model, 3, fisher="identity", parameters="2.*", random_state=0).fit(X)
    np.testing.assert_allclose(part.fisher_vectors(X), full.fisher_vectors(X)[:, -part.n_parameters_ :])


def test_flat_rows_are_reshaped_for_the_model():
    X = rows(30, 1, 8, 8)
    whole = NFKTransformer(convnet(), 4, random_state=0).fit_transform(X)
    flat = NFKTransformer(convnet(), 4, input_shape=(1, 8, 8), random_state=0).fit_transform(X.reshape(30, 64))
    assert np.array_equal(whole, flat)


def test_a_memory_mapped_array_and_float32_rows_are_read_as_they_are(tmp_path):
    X = rows(30).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    nfk = NFKTransformer(mlp(), 3, random_state=0)
    expected = nfk.fit_transform(X)
    assert expected.dtype == np.float64  # the module's own
    assert np.array_equal(nfk.fit_transform(np.load(tmp_path / "X.npy", mmap_mode="r")), expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_caller_that_needs_no_gradients_gets_the_same_embedding(solver, mode):
    X, nfk = rows(30), NFKTransformer(mlp(), 3, solver=solver, random_state=0)
    expected = nfk.fit_transform(X)
    with mode():
        found = nfk.fit_transform(X)
    assert np.array_equal(found, expected)
