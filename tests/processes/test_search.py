"""A grid search on several workers: one cache, one load of the weights in each of them."""

import pickle
from collections import Counter

import joblib
import numpy as np
import pytest
import torch
from torch import nn

from sknfk import NFKTransformer

from .search import GRID, N_SPLITS, X, loaded, loads, n_factorisations, scores, search, store, y


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    found = search(store(folder), folder).fit(X, y)
    assert len(loads(folder)) == 1
    return scores(found)


def check(found, folder, alone):
    np.testing.assert_allclose(scores(found), alone)
    assert n_factorisations(folder) == N_SPLITS + 1  # every rank and C is a slice of one for each split
    times = Counter(loads(folder))
    assert 1 <= len(times) <= 3 and set(times.values()) == {1}  # two workers, and this process for the refit


def test_workers_of_a_dask_cluster_share_a_cache_and_load_the_weights_once(tmp_path, alone):
    distributed = pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    model = store(tmp_path)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=None, local_directory=str(tmp_path)
    )
    with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        found = search(model, tmp_path).fit(X, y)
    check(found, tmp_path, alone)


def test_workers_of_loky_share_a_cache_and_load_the_weights_once(tmp_path, alone):
    with joblib.parallel_config(backend="loky", n_jobs=2):
        found = search(store(tmp_path), tmp_path).fit(X, y)
    check(found, tmp_path, alone)


def test_a_task_carries_the_weights_of_a_module_and_none_of_a_factory(tmp_path):
    with torch.random.fork_rng():
        wide = nn.Sequential(nn.Linear(5, 4096), nn.Tanh(), nn.Linear(4096, 3))
    weights = sum(p.numel() * p.element_size() for p in wide.parameters())
    assert len(pickle.dumps(NFKTransformer(wide))) > weights
    assert len(pickle.dumps(NFKTransformer(store(tmp_path)))) < 2000


def test_a_factory_of_a_store_gives_its_weights_and_not_its_seeds(tmp_path):
    stored = store(tmp_path)
    nfk = NFKTransformer(stored, 3, random_state=0).fit(X)
    expected = loaded(stored.path).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in nfk.module_.state_dict().items())
    assert len(GRID["nfk__n_components"]) * len(GRID["probe__C"]) == 9
