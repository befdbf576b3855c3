"""Training a skorch net on the labelled rows, without touching the caller's."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier, is_regressor
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.helper import SliceDict

from .._portable import PortableModule
from .._tokens import takes_tokens
from .._torch import seeded_torch

__all__ = ["interruptible", "train_net"]


@contextlib.contextmanager
def interruptible(net: NeuralNet) -> Iterator[None]:
    """Raise Ctrl-C from a net's training, which skorch takes for an ordinary end.

    Parameters
    ----------
    net : NeuralNet
        Trained in the context, and left as it was but for that.
    """
    fit_loop, interruptions = net.fit_loop, []

    def noting(*args: Any, **kwargs: Any) -> Any:
        try:
            return fit_loop(*args, **kwargs)
        except KeyboardInterrupt as interruption:
            if not _is_a_callbacks(interruption):
                interruptions.append(interruption)
            raise

    net.fit_loop = noting
    try:
        yield
    finally:
        del net.fit_loop
    if interruptions:
        raise interruptions[0]


def _is_a_callbacks(interruption: KeyboardInterrupt) -> bool:
    """Whether a callback raised it, as skorch's ``EarlyStopping`` does to end the training."""
    *_, (frame, _) = traceback.walk_tb(interruption.__traceback__)
    return isinstance(frame.f_locals.get("self"), Callback)


def train_net(net: NeuralNet, X: Any, y: np.ndarray | None, seed: int) -> PortableModule:
    """Train a clone of a skorch net and return its module.

    Parameters
    ----------
    net : NeuralNet
        Its clone is trained; a module instance in it is deep-copied by clone.
    X : ndarray of shape (N, ...), SliceDict or Dataset
        Rows; an array is passed as int64 where the module looks it up in an embedding, else
        as float32. A data set has targets of its own.
    y : ndarray of shape (N,) or None
        Targets. A classifier's labels are encoded as 0 to C - 1; rows whose
        integer label is -1 are unlabelled and left out.
    seed : int
        Seeds initial weights and shuffling.

    Returns
    -------
    PortableModule
        The trained module.

    Raises
    ------
    ValueError
        If the net needs y and there is none, or fewer than two classes remain.
    """
    is_dataset = not isinstance(X, np.ndarray | SliceDict)  # with targets of its own
    if y is None and not is_dataset and (is_classifier(net) or is_regressor(net)):
        raise ValueError(
            "`model` is a supervised net, which requires y to be passed, but the target y is None. Pass y to `fit`."
        )
    rows, target = X, y
    if isinstance(X, np.ndarray):
        with seeded_torch(seed):
            as_tokens = takes_tokens(clone(net).initialize().module_.eval(), X.shape[1:])
        rows = X.astype(np.int64 if as_tokens else np.float32)
    if is_dataset:
        target = None
    elif is_classifier(net):
        rows, target = _labelled(rows, np.asarray(y))
    elif is_regressor(net):
        target = np.asarray(y, dtype=np.float32).reshape(len(rows), -1)
    trained = clone(net)
    with seeded_torch(seed), interruptible(trained):
        trained.fit(rows, target)
    return PortableModule(trained.module_)


def _labelled(X: Any, y: np.ndarray) -> tuple[Any, np.ndarray]:
    labelled = y != -1 if y.dtype.kind == "i" else np.ones(len(y), dtype=bool)
    classes, codes = np.unique(y[labelled], return_inverse=True)
    if len(classes) < 2:
        unlabelled = int((~labelled).sum())
        raise ValueError(
            f"`model` is a classifier net and needs at least two classes. Got {len(classes)} class"
            f"{'' if len(classes) == 1 else 'es'} after leaving out {unlabelled} unlabelled rows (y == -1); "
            "pass more labels, or a model that needs none."
        )
    return X[labelled], codes.astype(np.int64)
