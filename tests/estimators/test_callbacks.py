"""Callbacks of scikit-learn see passes and batches, and may stop a fit."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sknfk import NFKTransformer

from ..cases import convnet, rows

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has no callbacks")

N_BATCHES = 5


class Recorder:
    """Notes what it is told, and stops after some sweeps."""

    max_propagation_depth = None

    def __init__(self, stop_after=None):
        self.began, self.ended, self.closed = [], [], 0
        self.stop_after = stop_after

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.began.append((context.task_name, context.max_subtasks))

    def on_fit_task_end(self, estimator, context):
        self.ended.append(context.task_name)
        return context.task_name == "sweep" and self.ended.count("sweep") == self.stop_after

    def teardown(self, estimator, context):
        self.closed += 1


def nfk(**options):
    options = {"solver": "krylov", "batch_size": 16, "random_state": 0, "gradient_cache": None, **options}
    return NFKTransformer(convnet().float(), 4, **options)


def images(n_rows=80):
    return rows(n_rows, 1, 8, 8).astype(np.float32)


@pytest.mark.parametrize("cache", [None, "ram"])
def test_a_callback_sees_each_pass_with_its_batches(cache):
    recorder = Recorder()
    fitted = nfk(gradient_cache=cache).set_callbacks(recorder).fit(images())
    passes = [name for name, _ in recorder.began if name != "batch"]
    assert passes == ["fit", "statistics"] + ["sweep"] * fitted.n_sweeps_
    assert recorder.ended.count("batch") == N_BATCHES * (1 + fitted.n_sweeps_)
    assert ("sweep", N_BATCHES) in recorder.began
    assert len(recorder.began) == len(recorder.ended)
    assert recorder.ended[-1] == "fit" and recorder.closed == 1


@pytest.mark.parametrize("solver", ["krylov", "subspace"])
def test_a_callback_may_stop_a_fit_which_is_then_usable(solver):
    X = images()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stopped = nfk(solver=solver, tol=1e-12).set_callbacks(Recorder(stop_after=2)).fit(X)
    assert stopped.n_sweeps_ == 2
    assert 0 < stopped.error_estimate_ < 1
    assert stopped.transform(X).shape == (80, 4)


@pytest.mark.parametrize("solver", ["exact", "arpack", "paper"])
def test_other_solvers_tell_of_the_statistics(solver):
    recorder = Recorder()
    nfk(solver=solver).set_callbacks(recorder).fit(images())
    assert ("statistics", N_BATCHES) in recorder.began
    assert recorder.ended[-1] == "fit"


def test_a_fit_without_callbacks_is_the_same_fit():
    X = images()
    told = nfk().set_callbacks(Recorder()).fit(X)
    np.testing.assert_array_equal(told.components_, nfk().fit(X).components_)


def test_callbacks_are_closed_where_a_fit_fails():
    recorder = Recorder()
    with pytest.raises(ValueError):
        nfk().set_callbacks(recorder).fit(np.full((80, 1, 8, 8), np.inf, np.float32))
    assert recorder.closed <= 1
    failing = nfk(checkpoint="no/such/folder/fit").set_callbacks(recorder)
    before = dict(vars(failing))
    with pytest.raises(ValueError):
        failing.fit(images())
    assert vars(failing).keys() == before.keys()


def test_a_progress_bar_in_a_pipeline_shows_sweeps_and_batches(capsys):
    pytest.importorskip("rich", reason="the progress bar is drawn by rich")
    X = images()
    pipeline = make_pipeline(nfk(), LogisticRegression())
    pipeline.set_callbacks(callback.ProgressBar(max_propagation_depth=None)).fit(X, np.arange(80) % 2)
    shown = capsys.readouterr().out
    assert "NFKTransformer" in shown and "sweep" in shown and "statistics" in shown


def test_a_pipeline_hands_its_callbacks_on():
    recorder = Recorder()
    make_pipeline(nfk(), LogisticRegression()).set_callbacks(recorder).fit(images(), np.arange(80) % 2)
    assert "sweep" in recorder.ended
