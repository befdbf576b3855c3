"""A pre-trained model that a grid search's workers load by themselves, and what they were sent instead."""

from __future__ import annotations

import functools
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Memory
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from torch import nn

from sknfk import NFKTransformer

from ..cases import mlp, rows

X = rows(60)
y = (X[:, 0] + X[:, 1] > 0).astype(int)
GRID = {"nfk__n_components": [2, 4, 8], "probe__C": [0.1, 1.0, 10.0]}
N_SPLITS = 3
N_FITS = 9 * N_SPLITS + 1  # the last is the refit
SECONDS_TO_MEET = 300.0  # a worker imports torch before its first task, on a machine that may do much else


class Stored:
    """A factory that loads weights from a file, once in each process."""

    def __init__(self, path: Path, n_workers: int = 1) -> None:
        self.path, self.n_workers = path, n_workers

    def __call__(self, n_features: int) -> nn.Module:
        mark(self.path.parent, "asked")
        model = loaded(self.path)
        meet(self.path.parent, self.n_workers)
        return model


@functools.cache
def loaded(path: Path) -> nn.Module:
    mark(path.parent, "loaded")
    model = mlp()
    model.load_state_dict(torch.load(path))
    return model


@functools.cache
def meet(folder: Path, n_workers: int) -> None:
    """Wait at the first fit until all workers have one, so that none makes them all before another has started."""
    deadline = time.monotonic() + SECONDS_TO_MEET
    while len(marks(folder, "loaded")) < n_workers and time.monotonic() < deadline:
        time.sleep(0.01)


class Marking(Memory):
    """A cache that leaves a mark where something is computed, and none where it is read."""

    def cache(self, function: Callable, **options: Any) -> Callable:
        cached, folder = super().cache(function, **options), Path(self.location).parent

        def marking(digest: str, compute: Callable) -> Any:
            def marked() -> Any:
                mark(folder, "computed", digest)
                return compute()

            return cached(digest, compute=marked)

        return marking


def mark(folder: Path, kind: str, what: str = "") -> None:
    (folder / f"{kind}.{os.getpid()}.{what}.{uuid.uuid4().hex}").touch()


def marks(folder: Path, kind: str) -> list[tuple[int, str]]:
    """The process of each mark, and what it is of."""
    names = [path.name.split(".") for path in folder.glob(f"{kind}.*")]
    return [(int(pid), what) for _, pid, what, _ in names]


def store(folder: Path, n_workers: int = 1) -> Stored:
    model = mlp()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)  # not what the factory's seed gives
    torch.save(model.state_dict(), folder / "weights")
    return Stored(folder / "weights", n_workers)


def search(model: object, folder: Path) -> GridSearchCV:
    nfk = NFKTransformer(model, max_components=8, memory=Marking(folder / "cache", verbose=0), random_state=0)
    pipe = Pipeline([("nfk", nfk), ("probe", LogisticRegression())])
    return GridSearchCV(pipe, GRID, cv=N_SPLITS)


def scores(search: GridSearchCV) -> np.ndarray:
    return search.cv_results_["mean_test_score"]
