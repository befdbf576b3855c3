"""Fits that were interrupted go on to the same bits; other fits are refused."""

import os
import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from sknfk import NFKTransformer
from sknfk.densities import Autoregressive, Classifier, LogProb, Sampled, Variational
from sknfk.estimators import _journal
from sknfk.exceptions import CheckpointMismatchError, CheckpointWarning, DamagedFileError, DataChangedError
from sknfk.persistence import previous_of

from ..cases import FLOAT32_RTOL, convnet, rows

pytest.importorskip("safetensors")

K = 5
FITTED = ("components_", "singular_values_", "mean_score_", "information_", "scale_")
WAYS = {
    "krylov": {"solver": "krylov", "gradient_cache": None},
    "krylov with a cache": {"solver": "krylov", "gradient_cache": "ram"},
    "krylov in bfloat16": {"solver": "krylov", "gradient_cache": "ram", "tol": 1e-2},
    "subspace": {"solver": "subspace", "gradient_cache": None, "max_sweeps": 4},
    "a share": {"n_components": 0.5, "solver": "krylov", "max_components": 20},
    "samples given": {"solver": "krylov", "statistics": rows(30, 1, 8, 8).astype(np.float32)},
    "exact": {"solver": "exact"},
    "sketch": {"solver": "sketch", "sketch_width": 32},
    "sketch-refined": {"solver": "sketch-refined", "sketch_width": 32},
}


class InterruptedHereError(Exception):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def always_writing(monkeypatch):
    """Write after every batch; say nothing of solvers that were stopped early."""
    monkeypatch.setattr(_journal, "WRITE_EVERY", 0.0)
    monkeypatch.setattr(_journal, "MOST_TIME_WRITING", float("inf"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="solver=")
        yield


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit"


def images(n_rows=70, seed=0):
    return rows(n_rows, 1, 8, 8, seed=seed).astype(np.float32)


def nfk(path, **options):
    options = {"n_components": K, "solver": "krylov", "batch_size": 16, "random_state": 0, **options}
    return NFKTransformer(convnet().float(), checkpoint=path, engine="layerwise", **options)


def stopping_after(n_writes, monkeypatch):
    """Fail in the place of a later write."""
    done, write = [], _journal.Journal.write

    def counting(self, sums=None):
        if len(done) == n_writes:
            raise InterruptedHereError
        write(self, sums)
        done.append(1)

    monkeypatch.setattr(_journal.Journal, "write", counting)
    return done


def same(found, expected):
    return all(getattr(found, name).tobytes() == getattr(expected, name).tobytes() for name in FITTED)


@pytest.mark.parametrize("way", WAYS)
def test_wherever_a_fit_ends_it_goes_on_to_the_same_bits(way, path, monkeypatch):
    X = images()
    expected = nfk(None, **WAYS[way]).fit(X)
    with monkeypatch.context() as patch:
        written = stopping_after(-1, patch)
        assert same(nfk(path, **WAYS[way]).fit(X), expected)
    assert len(written) >= (1 if way == "exact" else 4)
    for n_writes in range(len(written)):
        for generation in (path, previous_of(path)):
            generation.unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            stopping_after(n_writes, patch)
            with pytest.raises(InterruptedHereError):
                nfk(path, **WAYS[way]).fit(X)
        assert path.exists() == (n_writes > 0)
        found = nfk(path, **WAYS[way]).fit(X)
        assert same(found, expected), n_writes
        assert (found.n_sweeps_, found.error_estimate_) == (expected.n_sweeps_, expected.error_estimate_)


def test_a_fit_goes_on_where_it_was_and_does_not_start_anew(path, monkeypatch, visited):
    X, options = images(), {"gradient_cache": None}
    nfk(None, **options).fit(X)
    n_whole = sum(visited)
    with monkeypatch.context() as patch:
        stopping_after(12, patch)
        with pytest.raises(InterruptedHereError):
            nfk(path, **options).fit(X)
    visited.clear()
    nfk(path, **options).fit(X)
    assert sum(visited) <= n_whole - 11 * 16 + 70  # what the last write did not hold


def test_a_finished_fit_is_read_and_its_rows_are_checked(path, visited):
    X = images()
    first = nfk(path).fit(X)
    visited.clear()
    assert same(nfk(path).fit(X), first)
    assert not visited
    X[50] += 1
    with pytest.raises(DataChangedError, match="same rows at every pass"):
        nfk(path).fit(X)


@pytest.mark.parametrize("solver", ["krylov", "subspace"])
def test_a_fit_that_makes_no_more_sweeps_has_its_rows_checked_too(solver, path):
    options = {"solver": solver, "max_sweeps": 2, "tol": 0.0}
    nfk(path, **options).fit(images())
    with pytest.raises(DataChangedError, match="same rows at every pass"):
        nfk(path, **options).fit(images(seed=1))


def test_rows_that_an_interrupted_last_pass_has_seen_are_checked_too(path, monkeypatch):
    X, options = images(), {"solver": "sketch", "sketch_width": 32}
    with monkeypatch.context() as patch:
        stopping_after(10, patch)  # four of five batches of the second and last pass
        with pytest.raises(InterruptedHereError):
            nfk(path, **options).fit(X)
    X[0] += 1
    with pytest.raises(DataChangedError, match="in batch 0"):
        nfk(path, **options).fit(X)


@pytest.mark.parametrize("solver", ["krylov", "subspace"])
@pytest.mark.parametrize("asked", [{"n_components": 9}, {"tol": 1e-7, "max_sweeps": 30}])
def test_asking_for_more_goes_on_from_the_basis_and_equals_a_fresh_fit(solver, asked, path, visited):
    X = images(150)
    options = {"solver": solver, "gradient_cache": None, "tol": 1e-5, "max_sweeps": 25}
    nfk(path, **options).fit(X)
    fresh = nfk(None, **(options | asked)).fit(X)
    visited.clear()
    found = nfk(path, **(options | asked)).fit(X)
    assert sum(visited) < 150 * fresh.n_sweeps_
    A, B = (own.transform(X).astype(np.float64) for own in (found, fresh))
    lost = 1 - np.square(found.singular_values_).sum() / np.square(fresh.singular_values_).sum()
    assert found.n_components_ == fresh.n_components_ and abs(lost) < 1e-4
    assert np.linalg.norm(A @ A.T - B @ B.T) < 1e-2 * np.linalg.norm(B @ B.T)


@pytest.mark.parametrize("solver", ["krylov", "subspace"])
@pytest.mark.parametrize("asked", [{"tol": 1e-2}, {"n_components": 2}])
@pytest.mark.parametrize("tol", [1e-3, 0.0])  # which the fit has met, or has not
def test_asking_for_less_takes_what_is_there_and_warns_of_nothing(tol, asked, solver, path, visited):
    X, options = images(150), {"solver": solver, "gradient_cache": None, "max_sweeps": 3}
    nfk(path, **options, tol=tol).fit(X)
    visited.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        found = nfk(path, **options, **({"tol": 1e-3} | asked)).fit(X)
    assert not visited and 0 < found.error_estimate_ <= found.tol


DENSITIES = {
    "a function": lambda f: f,
    "LogProb": lambda f: LogProb(method=f),
    "Variational": lambda f: Variational(elbo=f),
    "Autoregressive": lambda f: Sampled(Classifier(), Autoregressive(f)),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_a_function_is_known_again_by_what_it_does_wherever_it_is(name, path):
    def fitted(factor):  # a function of its own at each call, as in each process
        return nfk(path, density=DENSITIES[name](lambda model, x: factor * model(x).logsumexp(1))).fit(images())

    assert same(fitted(1), fitted(1))
    with pytest.raises(CheckpointMismatchError, match="the digest of what `density` holds was"):
        fitted(2)


DIFFERENT = {
    "the digest of `model`": lambda X: (X, {"model": None}),
    "the shape of X": lambda X: (X[:40], {}),
    "the dtype of X": lambda X: (X.astype(np.float64), {}),
    "`fisher`": lambda X: (X, {"fisher": "identity"}),
    "`center`": lambda X: (X, {"center": False}),
    "`damping`": lambda X: (X, {"damping": 1e-2}),
    "`solver`": lambda X: (X, {"solver": "subspace"}),
    "`density`": lambda X: (X, {"density": "output", "model": "one output"}),
    "`batch_size`": lambda X: (X, {"batch_size": 8}),
    "`random_state`": lambda X: (X, {"random_state": 1}),
    "`parameters`": lambda X: (X, {"parameters": "5.*"}),
    "`statistics`": lambda X: (X, {"statistics": X[:20]}),
    "the engine": lambda X: (X, {"engine": "vmap"}),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_another_fit_is_refused_and_the_difference_named(name, path):
    X = images()
    nfk(path).fit(X)
    before = path.read_bytes()
    other_X, options = DIFFERENT[name](X)
    other = nfk(path)
    if options.get("model") == "one output":
        options["model"] = convnet(1).float()
    elif "model" in options:
        options["model"] = convnet().float()
        with torch.no_grad():
            options["model"][0].weight[0, 0, 0, 0] += 1e-3
    with pytest.raises(CheckpointMismatchError, match="same fit") as refused:
        other.set_params(**options).fit(other_X)
    assert name in str(refused.value)
    assert path.read_bytes() == before


def test_a_layer_with_another_setting_is_another_model(path):
    X, other = images(), convnet().float()
    nfk(path).fit(X)
    other[0].padding_mode = "circular"
    with pytest.raises(CheckpointMismatchError, match="the digest of `model`"):
        nfk(path).set_params(model=other).fit(X)


@pytest.mark.parametrize("n_components", [3, 9])
@pytest.mark.parametrize("solver", ["krylov", "subspace", "sketch"])
@pytest.mark.parametrize("n_writes", [2, 8])  # within the statistics, within the first sweep
def test_within_a_pass_a_fit_may_ask_for_other_components(n_writes, solver, n_components, path, monkeypatch):
    X, options = images(), {"solver": solver, "gradient_cache": None, "tol": 1e-9, "sketch_width": 32}
    with monkeypatch.context() as patch:
        stopping_after(n_writes, patch)
        with pytest.raises(InterruptedHereError):
            nfk(path, **options).fit(X)
    found, fresh = (nfk(p, **options, n_components=n_components).fit(X) for p in (path, None))
    assert found.n_components_ == n_components
    np.testing.assert_allclose(found.singular_values_, fresh.singular_values_, rtol=FLOAT32_RTOL)


def test_rows_that_change_while_a_fit_is_interrupted_are_found_out(path, monkeypatch):
    X = images()
    with monkeypatch.context() as patch:
        stopping_after(12, patch)
        with pytest.raises(InterruptedHereError):
            nfk(path).fit(X)
    with pytest.raises(DataChangedError, match="in batch"):
        nfk(path).fit(images(seed=1))


def test_a_damaged_newest_generation_is_warned_of_and_the_older_one_taken(path, monkeypatch):
    X = images()
    expected = nfk(path).fit(X)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.warns(CheckpointWarning, match="previous") as warned:
        found = nfk(path).fit(X)
    assert str(path) in str(warned[0].message)
    assert same(found, expected)
    for generation in (path, previous_of(path)):
        generation.write_bytes(b"damaged")
    with pytest.raises(DamagedFileError):
        nfk(path).fit(X)


def test_a_disk_that_is_full_costs_the_checkpoint_and_not_the_fit(path, monkeypatch):
    X = images()
    expected = nfk(None).fit(X)
    with monkeypatch.context() as patch:
        stopping_after(6, patch)
        with pytest.raises(InterruptedHereError):
            nfk(path).fit(X)
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_journal, "write_generation", full)
    with pytest.warns(CheckpointWarning, match="No space left") as warned:
        assert same(nfk(path).fit(X), expected)
    assert len(warned) == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "options, message",
    [
        ({"checkpoint": "no/such/folder/fit"}, "`checkpoint` must name a file in a folder that exists"),
        ({"checkpoint": "."}, "must name a file. Got the folder"),
        ({"random_state": None}, "`random_state` must be an int where `checkpoint` is given"),
        ({"random_state": np.random.RandomState(0)}, "`random_state` must be an int"),
    ],
)
def test_what_could_not_be_resumed_is_refused_before_any_work(options, message, path, visited):
    with pytest.raises(ValueError, match=message):
        nfk(path).set_params(**options).fit(images())
    assert not visited


def test_a_missing_library_is_named_before_any_work(path, visited, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install sknfk\[io\]"):
        nfk(path).fit(images())
    assert not visited


def test_options_may_be_numpy_scalars_paths_and_lists(path):
    X = images()
    options = {"max_memory": 10**9, "statistics": X[:9].tolist(), "gradient_cache": str(path.parent)}
    same_in_numpy = {
        "n_components": np.int64(K),
        "tol": np.float32(1e-3),
        "max_memory": np.int64(10**9),
        "random_state": np.int64(0),
        "damping": np.float64(1e-3),
        "statistics": X[:9].astype(np.float64),
    }
    first = nfk(path, **options, tol=float(np.float32(1e-3))).fit(X)
    n_writes = path.stat().st_mtime_ns
    assert same(nfk(path, **(options | same_in_numpy)).fit(X), first)
    assert path.stat().st_mtime_ns == n_writes  # it was read, and nothing was left to do


def test_a_fit_without_a_checkpoint_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nfk(None).fit(images())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("is_fitted", [False, True])
def test_an_interrupted_fit_leaves_estimator_and_module_as_they_were(error, is_fitted, path, monkeypatch):
    estimator = nfk(path)
    if is_fitted:
        estimator.fit(images(50))
        path.unlink()
        previous_of(path).unlink()
    module = estimator.model.train()
    before, flags = dict(vars(estimator)), [m.training for m in module.modules()]
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def failing(self, sums=None):
        raise error

    monkeypatch.setattr(_journal.Journal, "write", failing)
    with pytest.raises(error):
        estimator.fit(images())
    assert vars(estimator).keys() == before.keys()
    assert all(vars(estimator)[name] is value for name, value in before.items())
    assert [m.training for m in module.modules()] == flags
    assert all(torch.equal(module.state_dict()[name], value) for name, value in weights.items())
    assert not any(m._forward_hooks or m._backward_hooks for m in module.modules())
