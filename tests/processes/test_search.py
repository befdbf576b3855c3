"""A grid search on several workers: one cache, one load of the weights in each of them."""

import os
import pickle

import joblib
import numpy as np
import pytest
import torch
from torch import nn

from sknfk import NFKTransformer

from .search import GRID, N_FITS, N_SPLITS, X, loaded, marks, scores, search, store, y

N_WORKERS = 2


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    return folder, scores(search(store(folder), folder).fit(X, y))


def test_a_search_factorises_each_split_once_for_every_rank_and_C(alone):
    folder, _ = alone
    assert len(marks(folder, "asked")) == N_FITS
    assert len(marks(folder, "computed")) == N_SPLITS + 1  # and all rows, for the refit
    assert len(marks(folder, "loaded")) == 1


def check(found, folder, alone):
    np.testing.assert_allclose(scores(found), alone[1])
    asked, loads = ([pid for pid, _ in marks(folder, kind)] for kind in ("asked", "loaded"))
    assert len(asked) == N_FITS and asked.count(os.getpid()) == 1  # only the refit is made here
    assert len(set(asked)) == N_WORKERS + 1
    assert sorted(loads) == sorted(set(asked))  # once in each process, however many fits it makes
    computed = marks(folder, "computed")
    assert len({split for _, split in computed}) == N_SPLITS + 1
    assert len(set(computed)) == len(computed)  # a worker reads what it has computed
    # A split that both begin at once is computed twice. The first of each worker differ, so that not every split can
    # be, unless neither reads what the other has stored.
    assert len(computed) < N_WORKERS * N_SPLITS + 1


def test_workers_of_a_dask_cluster_share_a_cache_and_load_the_weights_once(tmp_path, alone):
    distributed = pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    model = store(tmp_path, N_WORKERS)
    cluster = distributed.LocalCluster(
        n_workers=N_WORKERS,
        threads_per_worker=1,
        dashboard_address=None,
        memory_limit=None,
        local_directory=str(tmp_path),
    )
    with cluster, distributed.Client(cluster), joblib.parallel_config(backend="dask"):
        found = search(model, tmp_path).fit(X, y)
    check(found, tmp_path, alone)


def test_workers_of_loky_share_a_cache_and_load_the_weights_once(tmp_path, alone):
    with joblib.parallel_config(backend="loky", n_jobs=N_WORKERS):
        found = search(store(tmp_path, N_WORKERS), tmp_path).fit(X, y)
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
