"""`solver="sketch"` and "sketch-refined": embeddings by sparse signs, against the materialised matrix."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from sknfk import NFKTransformer
from sknfk.estimators._plan import plan_fit
from sknfk.estimators._rank import resolve_rank
from sknfk.solvers import SparseSigns

from ..cases import FLOAT64_RTOL, MODELS, convnet, rows, seeded, tied
from ..solvers.test_signs import materialised
from .test_transformer import explicit_fisher_vectors, relative

K, W = 4, 16


def sketching(model, solver="sketch", **options):
    options = {"n_components": K, "sketch_width": W, "random_state": 0, **options}
    return NFKTransformer(model, solver=solver, **options)


def signs_of(nfk):
    """S as a dense matrix."""
    return materialised(SparseSigns(nfk.n_parameters_, nfk.components_.shape[1], nfk._sketch_seed)).numpy()


@pytest.mark.parametrize("engine", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("name", MODELS)
def test_the_embedding_is_the_sketch_of_the_fisher_vectors_times_the_components(name, engine):
    if (name, engine) in {("data_dependent", "vmap"), ("recurrent", "vmap")}:
        pytest.skip("vmap does not serve this model")
    model, X = MODELS[name]()
    nfk = sketching(model, engine=engine).fit(X)
    Z = explicit_fisher_vectors(model, X) @ signs_of(nfk)  # (N, w)
    U, S, _ = np.linalg.svd(Z, full_matrices=False)
    best = (U[:, :K] * S[:K]) @ (U[:, :K] * S[:K]).T
    assert nfk.components_.shape == (K, W)
    assert relative(nfk.singular_values_, S[:K]) < FLOAT64_RTOL
    assert relative(nfk.transform(X), Z @ nfk.components_.T) < FLOAT64_RTOL
    assert relative(nfk.transform(X) @ nfk.transform(X).T, best) < 1e-7
    assert (nfk.solver_, nfk.n_sweeps_) == ("sketch", 1)


def test_new_examples_are_embedded_by_the_same_signs():
    model, X, X_new = convnet(), rows(40, 1, 8, 8), rows(7, 1, 8, 8, seed=9)
    nfk = sketching(model).fit(X)
    expected = explicit_fisher_vectors(model, np.concatenate([X, X_new]), reference=X)[40:]
    assert relative(nfk.transform(X_new), expected @ signs_of(nfk) @ nfk.components_.T) < FLOAT64_RTOL
    embedding = np.zeros((7, K))
    assert np.array_equal(nfk.transform(X_new, out=embedding), embedding)
    assert relative(embedding, nfk.transform(X_new)) < FLOAT64_RTOL


def test_a_tied_parameter_has_its_signs_once_and_its_gradients_summed():
    model, X = tied(), rows(20)
    nfk = sketching(model).fit(X)
    assert nfk.n_parameters_ == sum(p.numel() for p in model.parameters())
    assert relative(nfk.transform(X), explicit_fisher_vectors(model, X) @ signs_of(nfk) @ nfk.components_.T) < 1e-10


def test_the_refined_solver_has_components_of_the_fisher_vectors():
    model, X = convnet(), rows(60, 1, 8, 8)
    V = explicit_fisher_vectors(model, X)
    nfk = sketching(model, "sketch-refined", sketch_width=96).fit(X)
    assert nfk.components_.shape == (K, V.shape[1])
    assert nfk.n_sweeps_ == 3
    assert relative(nfk.transform(X), V @ nfk.components_.T) < FLOAT64_RTOL
    assert relative(nfk.singular_values_, np.linalg.svd(V)[1][:K]) < 0.01


@pytest.mark.parametrize(("solver", "n_passes"), [("sketch", 2), ("sketch-refined", 4)])
def test_fit_visits_each_batch_once_for_the_statistics_and_once_for_each_sweep(visited, solver, n_passes):
    X = rows(90, 1, 8, 8)
    sketching(convnet(), solver, batch_size=32).fit(X)
    assert visited == [32, 32, 26] * n_passes


@pytest.mark.parametrize("cache", ["ram", "device"])
def test_kept_gradients_are_sketched_as_formed_ones_are(cache):
    X = rows(60, 1, 8, 8).astype(np.float32)
    formed, kept = (sketching(convnet().float(), gradient_cache=c).fit(X) for c in (None, cache))
    assert relative(kept.singular_values_, formed.singular_values_) < 2**-9


def test_seeds_give_different_signs_and_kernels_that_agree_more_in_wider_sketches():
    X = rows(100, 1, 8, 8)
    distances = []
    for width in (16, 128):
        first, second = (sketching(convnet(), sketch_width=width, random_state=seed).fit(X) for seed in (0, 1))
        kernels = [Z @ Z.T for Z in (first.transform(X), second.transform(X))]
        distances.append(relative(kernels[0], kernels[1]))
        assert np.array_equal(clone(first).fit(X).components_, first.components_)
    assert 0.1 < distances[1] < 0.7 * distances[0]


def test_lengths_are_those_in_the_sketch():
    X = rows(40, 1, 8, 8)
    nfk = sketching(convnet()).fit(X)
    Z = nfk.fisher_vectors(X) @ signs_of(nfk)
    outside = np.square(Z).sum(1) - np.square(nfk.transform(X)).sum(1)
    assert relative(nfk.residual(X), outside) < FLOAT64_RTOL
    assert nfk.score(X) == pytest.approx(np.square(nfk.transform(X)).sum() / np.square(Z).sum(), rel=1e-10)
    assert relative(nfk.truncate(2).transform(X), nfk.transform(X)[:, :2]) < FLOAT64_RTOL


def test_a_sketch_is_kept_in_a_memory_with_its_seed(tmp_path):
    X = rows(40, 1, 8, 8)
    first, again = (sketching(convnet(), memory=str(tmp_path)).fit(X) for _ in range(2))
    assert again._sketch_seed == first._sketch_seed
    assert np.array_equal(again.transform(X), first.transform(X))


def test_a_fit_by_another_solver_forgets_the_signs():
    X = rows(40, 1, 8, 8)
    nfk = sketching(convnet()).fit(X).set_params(solver="krylov").fit(X)
    assert relative(nfk.transform(X), nfk.fisher_vectors(X) @ nfk.components_.T) < FLOAT64_RTOL


def wide_network(solver, n_components, **options):
    """8,040 parameters, so that blocks of them are most of what solvers hold."""
    model = seeded(lambda: nn.Sequential(nn.Linear(1000, 8), nn.Tanh(), nn.Linear(8, 3)))
    return sketching(model, solver, n_components=n_components, batch_size=1, gradient_cache=None, **options)


def planned(solver, n_components, **options):
    nfk, X = wide_network(solver, n_components, **options), rows(80, 1000)
    setup, _ = nfk._set_up(nfk._read(X, reset=True), None)
    return plan_fit(nfk, setup, len(X), resolve_rank(nfk, 80))


def test_auto_takes_a_sketch_where_no_blocks_fit_and_warns():
    needs = {s: planned(s, K).total_bytes for s in ("krylov", "subspace", "sketch-refined", "sketch")}
    assert list(needs.values()) == sorted(needs.values(), reverse=True)
    for solver in ("sketch-refined", "sketch"):
        nfk = wide_network("auto", K, max_memory=needs[solver])
        with pytest.warns(UserWarning, match=f"would not fit `max_memory`; '{solver}' keeps"):
            nfk.fit(rows(80, 1000))
        assert nfk.solver_ == solver
    with pytest.raises(ValueError, match="`max_memory` must hold what the fit works with"):
        planned("auto", K, max_memory=needs["sketch"] - 1)


def test_what_a_sketch_needs_does_not_grow_with_parameters_times_components():
    few, many = (planned("sketch", n_components).memory["solver"] for n_components in (2, 12))
    assert 4 * 8_000 * 8 < few < many  # vectors over parameters
    blocks = [planned("krylov", n_components).memory["solver"] for n_components in (2, 12)]
    assert many - few < (blocks[1] - blocks[0]) / 20


def test_too_narrow_a_sketch_is_refused_in_words():
    message = r"`sketch_width` must be at least the number of components, 4\. Got 3; pass 'auto'"
    for solver in ("sketch", "sketch-refined"):
        with pytest.raises(ValueError, match=message):
            sketching(convnet(), solver, sketch_width=3).fit(rows(30, 1, 8, 8))


def test_explain_counts_the_passes_of_a_sketch():
    X = rows(30, 1, 8, 8)
    for solver, n_sweeps in (("sketch", 1), ("sketch-refined", 3)):
        told = sketching(convnet(), solver).explain(X)
        assert (told.n_sweeps, told.plan.solver) == (n_sweeps, solver)
        assert f"{n_sweeps} sweeps and a pass for the statistics" in str(told)


def test_a_pass_that_sketches_is_a_sweep_of_the_operator():
    nfk, X = sketching(convnet()).fit(rows(30, 1, 8, 8)), rows(30, 1, 8, 8)
    vectors, signs = nfk.operator(X).torch, SparseSigns(nfk.n_parameters_, W, 5)
    whole = vectors.sketch(signs)
    assert whole.shape == (30, W)
    assert torch.equal(torch.cat([Z.clone() for Z in vectors.sketch_blocks(signs)]), whole)
    R = torch.eye(W, dtype=torch.float64)[:, :3]
    assert torch.equal(vectors.sketch(signs, R), whole[:, :3])
