"""Grid search over the rank, caching, few labels: what a pipeline may ask."""

import sys

import joblib
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.semi_supervised import SelfTrainingClassifier
from skorch import NeuralNetClassifier
from torch import nn

import sknfk.estimators._factorise as factorise_module
from sknfk import NFKTransformer, TakeComponents, semi_supervised_split

from ..cases import any_width, mlp, rows, seeded

RANKS = [2, 3, 5, 8]
COSTS = [0.1, 1.0, 10.0]
X = rows(60)
y = (X[:, 0] + X[:, 1] > 0).astype(int)


@pytest.fixture
def factorisations(monkeypatch):
    """Count the truncated singular value decompositions."""
    counted = []
    solve = factorise_module.truncated_svd

    def counting(*arguments, **options):
        counted.append(1)
        return solve(*arguments, **options)

    monkeypatch.setattr(factorise_module, "truncated_svd", counting)
    return counted


def search(nfk, grid):
    pipe = Pipeline([("nfk", nfk), ("rank", TakeComponents()), ("probe", LogisticRegression())])
    return GridSearchCV(pipe, grid, cv=3).fit(X, y)


def test_with_memory_a_search_over_rank_and_cost_factorises_once_a_fold_and_once_to_refit(tmp_path, factorisations):
    nfk = NFKTransformer(mlp(), max_components=8, memory=str(tmp_path), random_state=0)
    found = search(nfk, {"nfk__n_components": RANKS, "probe__C": COSTS})
    assert len(factorisations) == 4
    factorisations.clear()
    without = search(NFKTransformer(mlp(), random_state=0), {"nfk__n_components": RANKS, "probe__C": COSTS})
    assert len(factorisations) == 37
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], without.cv_results_["mean_test_score"])


def test_take_components_after_a_cached_step_costs_the_same(tmp_path, factorisations):
    pipe = Pipeline(
        [
            ("nfk", NFKTransformer(mlp(), 8, random_state=0)),
            ("rank", TakeComponents()),
            ("probe", LogisticRegression()),
        ],
        memory=str(tmp_path),
    )
    GridSearchCV(pipe, {"rank__n_components": RANKS, "probe__C": COSTS}, cv=3).fit(X, y)
    assert len(factorisations) == 4


def test_a_cached_slice_equals_a_fit_of_its_own(tmp_path):
    cached = NFKTransformer(mlp(), 3, max_components=8, memory=str(tmp_path), tol=1e-12, random_state=0).fit(X)
    again = NFKTransformer(mlp(), 3, max_components=8, memory=str(tmp_path), tol=1e-12, random_state=0).fit(X)
    alone = NFKTransformer(mlp(), 3, tol=1e-12, random_state=0).fit(X)
    assert np.array_equal(cached.transform(X), again.transform(X))
    np.testing.assert_allclose(cached.transform(X), alone.transform(X), rtol=1e-6, atol=1e-8)
    assert cached.n_components_ == 3 and cached.components_.shape[0] == 3


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_shares_are_slices_of_the_same_cached_factorisation(tmp_path, factorisations, share):
    options = {"max_components": 20, "memory": str(tmp_path), "random_state": 0}
    nfk = NFKTransformer(mlp(), share, **options).fit(X)
    NFKTransformer(mlp(), 4, **options).fit(X)
    assert len(factorisations) == 1
    assert nfk.explained_variance_ratio_.sum() >= share > nfk.explained_variance_ratio_[:-1].sum()


def test_a_share_out_of_reach_of_the_cached_factorisation_warns_at_every_fit(tmp_path):
    nfk = NFKTransformer(mlp(), 0.99, max_components=2, random_state=0)
    with pytest.warns(UserWarning, match="must suffice for a share of 0.99") as expected:
        nfk.fit(X)
    for _ in range(2):
        with pytest.warns(UserWarning) as warned:
            nfk.set_params(memory=str(tmp_path)).fit(X)
        assert [str(w.message) for w in warned] == [str(w.message) for w in expected]


# What changes the factorisation, and what does not.
FRESH = [{"damping": 0.1}, {"fisher": "identity"}, {"center": False}, {"random_state": 1}, {"parameters": "2.*"}]
FRESH += [{"statistics": X[:20]}, {"tol": 1e-6}, {"solver": "subspace"}, {"density": "log_prob"}]
SAME = [{"n_components": 2}, {"batch_size": 7}, {"device": "cpu"}, {"normalize": "l2"}, {"whiten": True}]


@pytest.mark.parametrize(("change", "n_fits"), [(c, 2) for c in FRESH] + [(c, 1) for c in SAME])
def test_the_key_holds_what_the_factorisation_depends_on_and_nothing_else(tmp_path, factorisations, change, n_fits):
    options = {"density": "output", "max_components": 4, "memory": str(tmp_path), "random_state": 0}
    model = mlp(5, 1)
    NFKTransformer(model, 4, **options).fit(X, y)
    NFKTransformer(model, **{"n_components": 4, **options, **change}).fit(X, 1 - y)
    assert len(factorisations) == n_fits


CELL = """
def f(model, x):
    return 2 * model(x).sum(1)

class Net(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x).tanh()
"""


@pytest.mark.parametrize(("edit", "n_fits"), [(("", ""), 1), (("2 *", "3 *"), 2), (("tanh", "sigmoid"), 2)])
def test_code_that_is_edited_under_its_name_is_factorised_anew(tmp_path, factorisations, monkeypatch, edit, n_fits):
    for source in (CELL, CELL.replace(*edit)):
        defined = {"__name__": "__main__", "torch": torch}
        exec(source, defined)
        monkeypatch.setattr(sys.modules["__main__"], "Net", defined["Net"], raising=False)
        model = seeded(lambda net=defined["Net"]: net(5, 3))
        NFKTransformer(model, 2, density=defined["f"], memory=str(tmp_path), random_state=0).fit(X)
    assert len(factorisations) == n_fits


def test_other_weights_or_rows_are_factorised_anew(tmp_path, factorisations):
    options = {"n_components": 4, "memory": joblib.Memory(tmp_path, verbose=0), "random_state": 0}
    NFKTransformer(any_width(), **options).fit(X)
    NFKTransformer(any_width(), **options).fit(X[:50])
    changed = any_width()
    changed.head.bias.data += 1
    NFKTransformer(changed, **options).fit(X)
    assert len(factorisations) == 3


def test_a_memory_that_maps_its_arrays_serves_too(tmp_path):
    options = {"n_components": 4, "memory": joblib.Memory(tmp_path, mmap_mode="r", verbose=0), "random_state": 0}
    first, second = (NFKTransformer(mlp(), **options).fit_transform(X) for _ in range(2))
    assert np.array_equal(first, second)


def test_training_is_cached_with_y_and_the_factorisation_with_the_weights(tmp_path, factorisations):
    net = NeuralNetClassifier(
        nn.Linear, module__in_features=5, module__out_features=2, criterion=nn.CrossEntropyLoss, verbose=0,
        train_split=None, max_epochs=2,
    )  # fmt: skip
    options = {"max_components": 4, "memory": str(tmp_path), "random_state": 0}
    a = NFKTransformer(net, 4, **options).fit(X, y).transform(X)
    b = NFKTransformer(net, 2, **options).fit(X, y).transform(X)
    assert len(factorisations) == 1
    np.testing.assert_allclose(a[:, :2], b, rtol=1e-4, atol=1e-5)  # float32 products of other widths
    NFKTransformer(net, 4, **options).fit(X, 1 - y)
    assert len(factorisations) == 2


def test_more_components_than_max_components_are_refused_before_the_data_is_read():
    with pytest.raises(ValueError, match="at most `max_components`. Got 9 above 8; raise `max_components`"):
        NFKTransformer(mlp(), 9, max_components=8).fit(X)


def test_take_components_takes_the_first_columns_and_refuses_too_many():
    Z = rows(10, 4)
    assert np.array_equal(TakeComponents(2).fit_transform(Z), Z[:, :2])
    assert np.array_equal(TakeComponents().fit_transform(Z), Z)
    with pytest.raises(ValueError, match="at most the number of columns of X, 4. Got 5"):
        TakeComponents(5).fit(Z)


class TestFewLabels:
    """Rows labelled -1 shape the embedding and never teach the probe."""

    X, y = load_digits(return_X_y=True)
    X = X / 16

    def partly_labelled(self, n_labelled=200):
        labels = np.full(len(self.y), -1)
        chosen = np.random.default_rng(0).permutation(len(self.y))[:n_labelled]
        labels[chosen] = self.y[chosen]
        return labels

    def test_a_probe_of_the_labelled_rows_alone_is_plain_scikit_learn(self):
        labels = self.partly_labelled()
        model = seeded(lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))).float()
        nfk = NFKTransformer(model, 16, random_state=0)
        probe = SelfTrainingClassifier(LogisticRegression(max_iter=2000), max_iter=0)
        pipe = Pipeline([("nfk", nfk), ("probe", probe)])
        pipe.fit(self.X, labels)
        by_hand = LogisticRegression(max_iter=2000)
        by_hand.fit(pipe[0].transform(self.X[labels >= 0]), labels[labels >= 0])
        hidden = labels < 0
        found = pipe.predict(self.X[hidden])
        assert np.mean(found == by_hand.predict(pipe[0].transform(self.X[hidden]))) > 0.999
        assert np.mean(found == self.y[hidden]) > 0.8
        assert -1 not in found

    def test_the_split_scores_labelled_rows_only_and_trains_on_all_others(self):
        labels = self.partly_labelled()
        split = semi_supervised_split(labels, 3, random_state=0)
        tests = [test for _, test in split.split()]
        assert sorted(np.concatenate(tests)) == list(np.flatnonzero(labels >= 0))
        for train, test in split.split():
            assert set(np.flatnonzero(labels < 0)) <= set(train)
            assert np.bincount(labels[test], minlength=10).min() >= 3

    def test_the_split_serves_a_grid_search(self):
        labels = self.partly_labelled()
        model = seeded(lambda: nn.Linear(64, 10)).float()
        pipe = make_pipeline(
            NFKTransformer(model, 16, random_state=0),
            SelfTrainingClassifier(LogisticRegression(max_iter=2000), max_iter=0),
        )
        scores = cross_val_score(pipe, self.X, labels, cv=semi_supervised_split(labels, 3, random_state=0))
        assert scores.min() > 0.5

    def test_too_few_labels_for_the_folds_are_refused(self):
        with pytest.raises(ValueError, match=r"n_splits=3 and 2 labels; lower `n_splits`"):
            semi_supervised_split([0, 0, 0, 1, 1, -1], 3)
        with pytest.raises(ValueError, match="0 labels"):
            semi_supervised_split([-1, -1], 2)
