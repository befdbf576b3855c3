"""Groups of processes of which one fails, ends, stands still or asks for something else."""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import NFKTransformer
from sknfk.estimators import _journal
from sknfk.gradients import LayerwiseEngine

from ..cases import mlp, rows, seeded
from . import group
from .group import run, told

X = rows(90)
SHORT_TIMEOUT = 10.0  # seconds; a process that stands still costs it
FITTED = ("components_", "singular_values_")


def own_rows(rank: int, size: int) -> np.ndarray:
    return X[rank::size]


def nfk(model: Any = None, **options: Any) -> NFKTransformer:
    options = {"n_components": 4, "solver": "krylov", "batch_size": 16, "random_state": 0, **options}
    return NFKTransformer(mlp() if model is None else model, **options)


def refusals(rank: int, size: int, folder: Path) -> dict[str, Any]:
    """What each process is told, by the case; each must be over before the next can begin."""
    broken = own_rows(rank, size).copy()
    broken[3 if rank else slice(0)] = np.nan
    net = NeuralNetClassifier(nn.Sequential, module__args=())
    y = np.zeros(len(own_rows(rank, size)))
    cases = {
        "the same rows": lambda: nfk().fit(X),
        "none at all": lambda: nfk().fit(X[:0]),
        "NaN in one": lambda: nfk().fit(broken),
        "another width in one": lambda: nfk().fit(own_rows(rank, size)[:, : 5 - rank]),
        "no model": lambda: NFKTransformer(None).fit(own_rows(rank, size)),
        "a net to be trained": lambda: NFKTransformer(net).fit(own_rows(rank, size), y),
        "exact by name": lambda: nfk(solver="exact").fit(own_rows(rank, size)),
        "memory": lambda: nfk(memory=str(folder)).fit(own_rows(rank, size)),
        "other options": lambda: nfk(n_components=4 + rank).fit(own_rows(rank, size)),
        "other weights": lambda: nfk(mlp() if rank else mlp(5, 4)).fit(own_rows(rank, size)),
        "another solver's course": lambda: fit_stopping_early(rank, size),
        "only one fits": lambda: nfk().fit(own_rows(rank, size)) if rank == 0 else nfk().explain(own_rows(rank, size)),
    }
    answers = {name: told(lambda *_, case=case: case())(rank, size, folder) for name, case in cases.items()}
    nfk(random_state=rank).fit(own_rows(rank, size))  # a group goes on; the first process's seed counts
    frozen = FrozenEstimator(type("Net", (), {"module_": mlp(), "__sklearn_is_fitted__": lambda self: True})())
    answers["frozen"] = told(lambda *_: nfk(frozen).fit(own_rows(rank, size)))(rank, size, folder)
    return answers


def fit_stopping_early(rank: int, size: int) -> None:
    """One process takes a solver's estimate for good enough after the first sweep, the other does not."""
    nfk(tol=0.0, max_sweeps=3).set_params(tol=1e-12).fit(own_rows(rank, size)) if rank else _stopped(rank, size)


def _stopped(rank: int, size: int) -> None:
    from sknfk.solvers import _krylov

    estimate, _krylov.energy_error_estimate = _krylov.energy_error_estimate, lambda *_: 0.0
    try:
        nfk(tol=0.0, max_sweeps=3).set_params(tol=1e-12).fit(own_rows(rank, size))
    finally:
        _krylov.energy_error_estimate = estimate


class Stopping:
    """A callback that asks for the end after the first sweep."""

    max_propagation_depth = None

    def setup(self, estimator: Any, context: Any) -> None: ...

    def teardown(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
        return context.task_name == "sweep"


def agreements(rank: int, size: int, folder: Path) -> dict[str, Any]:
    """What all processes do where one of them has a reason for it."""
    asked = nfk(tol=1e-9, max_sweeps=6)
    if rank and hasattr(asked, "set_callbacks"):
        asked.set_callbacks(Stopping())
    part = own_rows(rank, size)
    sketch = {
        "model": seeded(lambda: nn.Sequential(nn.Linear(5, 3000), nn.Tanh(), nn.Linear(3000, 3))),
        "sketch_width": 64,
    }
    enough = nfk(solver="sketch", **sketch).explain(part).plan.total_bytes
    plan = nfk(solver="auto", max_memory=enough, **sketch).explain(part).plan
    return {
        "without room for blocks": (plan.solver, plan.blocks),
        "n_sweeps of one that is stopped": asked.fit(part).n_sweeps_ if hasattr(asked, "set_callbacks") else 1,
        "explanation": str(nfk().explain(part if rank else part[:0])),
        "max_memory": nfk().explain(part).plan.max_memory,
    }


class DyingModel(nn.Module):
    """Sends its process a signal at a forward pass in one of the processes."""

    def __init__(self, at_call: int, number: int | None) -> None:
        super().__init__()
        self.net, self.at_call, self.number, self.n_calls = mlp(), at_call, number, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) == 16:
            self.n_calls += 1
            if self.n_calls == self.at_call and self.number is not None:
                os.kill(os.getpid(), self.number)
        return self.net(x)


def one_is_killed(rank: int, size: int, folder: Path) -> dict[str, Any]:
    return told(lambda *_: fit_dying(rank, size, folder, signal.SIGKILL if rank == size - 1 else None))(
        rank, size, folder
    )


def one_stands_still(rank: int, size: int, folder: Path) -> dict[str, Any]:
    (folder / f"pid{rank}").write_text(str(os.getpid()))
    is_last = rank == size - 1
    answer = told(lambda *_: fit_dying(rank, size, folder, signal.SIGSTOP if is_last else None))(rank, size, folder)
    (folder / f"ended{rank}").touch()
    if len(list(folder.glob("ended*"))) == size - 1:
        with contextlib.suppress(ProcessLookupError):  # two that end at once both come here
            os.kill(int((folder / f"pid{size - 1}").read_text()), signal.SIGKILL)
    return answer


def fit_dying(rank: int, size: int, folder: Path, number: int | None) -> NFKTransformer:
    model = DyingModel(3, number)  # in the second sweep
    options = {"gradient_cache": None, "tol": 1e-9, "checkpoint": folder.parent / "checkpoint"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nfk(model, **options).fit(X[rank * len(X) // size : (rank + 1) * len(X) // size])


def goes_on(rank: int, size: int, folder: Path) -> dict[str, Any]:
    """Fit again, from the checkpoint where there is one; count the sweeps that are made here."""
    read: list[int] = []
    restore = _journal.unpack_state

    def counting(*arguments: Any) -> Any:
        state = restore(*arguments)
        read.append(state.n_sweeps)
        return state

    _journal.unpack_state = counting
    found = fit_dying(rank, size, folder, None)
    return {"read": read, "n_sweeps": found.n_sweeps_, **{name: getattr(found, name) for name in FITTED}}


def one_is_short_of_memory(rank: int, size: int, folder: Path) -> dict[str, Any]:
    """Memory gives out for more than ten rows at once, in the second process only."""
    form = LayerwiseEngine.__call__

    def scarce(self: LayerwiseEngine, x: torch.Tensor) -> Any:
        if len(x) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return form(self, x)

    with pytest.MonkeyPatch.context() as patch:
        if rank:
            patch.setattr(LayerwiseEngine, "__call__", scarce)
        found = nfk(engine="layerwise", gradient_cache=None, tol=1e-9).fit(own_rows(rank, size))
    return {"batch_size_": found.batch_size_, **{name: getattr(found, name) for name in FITTED}}


def study(folder: Path) -> dict[str, Any]:
    whole = run(goes_on, 3, folder / "whole" / "fit")
    died = run(one_is_killed, 3, folder / "died" / "fit")
    kept = sorted(path.name for path in (folder / "died").iterdir() if path.is_file())
    resumed = run(goes_on, 3, folder / "died" / "fit")
    other = run(lambda *all: told(goes_on)(*all), 2, folder / "died" / "fit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group, "TIMEOUT", timedelta(seconds=SHORT_TIMEOUT))
        stood_still = run(one_stands_still, 3, folder / "still" / "fit")
    return {
        "refusals": run(refusals, 2, folder / "refusals"),
        "agreements": run(agreements, 2, folder / "agreements"),
        "whole": whole,
        "died": died,
        "stood still": stood_still,
        "kept": kept,
        "resumed": resumed,
        "other number of processes": other,
        "memory of all": run(one_is_short_of_memory, 1, folder / "enough", joined=False)[0],
        "less memory in one": run(one_is_short_of_memory, 2, folder / "scarce"),
    }
