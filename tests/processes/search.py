"""A pre-trained model that a grid search's workers load by themselves, and what they were sent instead."""

from __future__ import annotations

import functools
import os
import uuid
from pathlib import Path

import numpy as np
import torch
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


class Stored:
    """A factory that loads weights from a file, once in each process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, n_features: int) -> nn.Module:
        return loaded(self.path)


@functools.cache
def loaded(path: Path) -> nn.Module:
    (path.parent / f"loaded.{os.getpid()}.{uuid.uuid4().hex}").touch()
    model = mlp()
    model.load_state_dict(torch.load(path))
    return model


def store(folder: Path) -> Stored:
    model = mlp()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)  # not what the factory's seed gives
    torch.save(model.state_dict(), folder / "weights")
    return Stored(folder / "weights")


def loads(folder: Path) -> list[int]:
    """The processes that have loaded the weights, once for each time."""
    return sorted(int(path.name.split(".")[1]) for path in folder.glob("loaded.*"))


def search(model: object, folder: Path) -> GridSearchCV:
    nfk = NFKTransformer(model, max_components=8, memory=str(folder / "cache"), random_state=0)
    pipe = Pipeline([("nfk", nfk), ("probe", LogisticRegression())])
    return GridSearchCV(pipe, GRID, cv=N_SPLITS)


def n_factorisations(folder: Path) -> int:
    """How many are in the cache that all workers share."""
    return sum("_stored_factorisation" in str(path) for path in (folder / "cache").rglob("output.pkl"))


def scores(search: GridSearchCV) -> np.ndarray:
    return search.cv_results_["mean_test_score"]
