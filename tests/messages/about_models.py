"""Messages about the model: (trigger, class, message)."""

import warnings

import numpy as np
import torch
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import NFKTransformer, _torch
from sknfk.densities import Embedding

from ..cases import mlp, rows
from .making import X, fit


class DTensor(nn.Parameter):
    """Stands for a parameter that is sharded."""


def sharded():
    model = nn.Linear(5, 3)
    model.weight = DTensor(torch.zeros(3, 5))
    return model


def on_two_devices():
    return nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 3, device="meta"))


class Pair(nn.Module):
    """Two layers on devices of their own, one of them not here."""

    def named_parameters(self, *arguments, **options):
        first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        second.__class__ = Elsewhere
        return iter([("first", first), ("second", second)])


class Elsewhere(nn.Parameter):
    device = torch.device("cuda", 1)


def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.Linear(5, 5), torch.ao.nn.quantized.Linear(5, 3))


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(mlp())


def with_a_kept_result():
    model = mlp()
    model.last = model(X)
    return model


def on_a_shared_gpu(patch):
    patch.setattr(_torch.multiprocessing, "parent_process", lambda: object())
    _torch.warn_of_a_shared_gpu.__wrapped__("cuda")


def net(**options):
    return NeuralNetClassifier(mlp().float(), max_epochs=1, train_split=None, verbose=0, **options)


def trained():
    y = np.arange(12) % 3
    return net().fit(rows(12).astype(np.float32), y), y


def fit_a_fitted_net():
    ready, y = trained()
    fit(ready, y=y)


MESSAGES = {
    "not fitted": (
        lambda: NFKTransformer(mlp()).transform(rows(3)),
        NotFittedError,
        "This NFKTransformer instance is not fitted yet. Call 'fit' with appropriate arguments before using this "
        "estimator.",
    ),
    "a wrapped model": (
        lambda: fit(nn.DataParallel(mlp())),
        TypeError,
        "`model` must be a plain module. Got DataParallel; pass the module inside it, `model.module`.",
    ),
    "a sharded model": (
        lambda: fit(sharded()),
        TypeError,
        "`model` must be whole in one process. 'weight' is sharded over several; gather it first, such as with "
        "`torch.distributed.checkpoint.state_dict.get_model_state_dict(full_state_dict=True)`.",
    ),
    "a lazy model": (
        lambda: fit(nn.LazyLinear(3)),
        ValueError,
        "`model` must have all its parameters. 'weight' is lazy and has no shape yet; run the model once on a batch "
        "before passing it.",
    ),
    "a model without weights": (
        lambda: fit(on_two_devices()),
        ValueError,
        "`model` must hold its weights. Some of its parameters are on the 'meta' device; load the weights first.",
    ),
    "a model on two devices": (
        lambda: _torch.validate_module(Pair()),
        ValueError,
        "`model` must be on one device. Got cpu, cuda:1; move it with `model.to(device)`.",
    ),
    "a quantised model": (
        lambda: fit(quantised()),
        TypeError,
        "`model` must have floating parameters. Layer '1' (Linear) is quantised and has no gradient; pass the model as "
        "it was before quantisation.",
    ),
    "a compiled model": (
        lambda: fit(scripted()),
        TypeError,
        "`model` must be a module of Python code. It is compiled by `torch.jit`; pass it as it was before.",
    ),
    "a model that keeps a result": (
        lambda: fit(with_a_kept_result()),
        ValueError,
        "`model` must be a module that `copy.deepcopy` can copy. Sequential raised: Only Tensors created explicitly by "
        "the user …. Detach the tensors that it keeps beside its parameters.",
    ),
    "a device that is not there": (
        lambda: fit(device="gpu"),
        ValueError,
        "`device` must be one that torch can use here. Got 'gpu', and torch says: …. Pass device='auto' to take what "
        "there is.",
    ),
    "processes that share a GPU": (
        on_a_shared_gpu,
        UserWarning,
        "Several processes fit on one GPU: each holds its own copy of the model and of what a fit works with. "
        "Use n_jobs=1 with a GPU, or device='cpu'.",
    ),
    "a factory of something else": (
        lambda: fit(int),
        TypeError,
        "`model` as a factory must return a torch module for `n_features` columns. Got int; pass a class or function "
        "that builds one, or a module.",
    ),
    "an estimator that is no net": (
        lambda: fit(LogisticRegression()),
        TypeError,
        "`model` must be a torch module, a factory that builds one, a skorch net or a FrozenEstimator of one. Got "
        "LogisticRegression; pass the net alone, and put other steps of a pipeline before this one.",
    ),
    "no model for parts": (
        lambda: NFKTransformer().fit({"a": rows(12)}),
        ValueError,
        "`model` must be a module, or a skorch net, where X has parts. Got None, which is made for the columns of an "
        "array; pass X as one.",
    ),
    "a frozen estimator without a network": (
        lambda: fit(FrozenEstimator(LogisticRegression())),
        TypeError,
        "`model` as a FrozenEstimator must hold a fitted skorch net. Got LogisticRegression without a `module_`; fit "
        "it before freezing.",
    ),
    "a net that is fitted": (
        fit_a_fitted_net,
        UserWarning,
        "`model` is a net that is already fitted; a clone of it is trained anew on X and y. Wrap it in "
        "`sklearn.frozen.FrozenEstimator` to use it as it is.",
    ),
    "a net without y": (
        lambda: fit(net()),
        ValueError,
        "`model` is a supervised net, which requires y to be passed, but the target y is None. Pass y to `fit`.",
    ),
    "a net with one class": (
        lambda: fit(net(), y=np.where(np.arange(12) < 5, 2, -1)),
        ValueError,
        "`model` is a classifier net and needs at least two classes. Got 1 class after leaving out 7 unlabelled rows "
        "(y == -1); pass more labels, or a model that needs none.",
    ),
    "rows that the model does not take": (
        lambda: fit(mlp(4)),
        ValueError,
        "`model` must accept rows of shape (5,) and dtype float64. It raised: mat1 and mat2 shapes …. Check X against "
        "the model's first layer, or reshape rows with `input_shape`, such as (3, 32, 32).",
    ),
    "parts that the model does not take": (
        lambda: fit(X={"pixels": rows(12)}),
        ValueError,
        "`model` must accept the parts of X as arguments by these names: pixels (3, 5). It raised: …'pixels'. Rename "
        "or leave out parts of X, or pass a callable (model, x) -> (B,) as `density`, which gets them as a dict.",
    ),
    "rows that a named density does not take": (
        lambda: fit(mlp(4), density="classifier"),
        ValueError,
        "`model` must accept rows of shape (5,) and dtype float64. It raised: …. Check X against the model's first "
        "layer, or reshape rows with `input_shape`, such as (3, 32, 32).",
    ),
    "rows that a projection does not take": (
        lambda: fit(mlp(4), density=Embedding(projection=2)),
        ValueError,
        "`model` must accept rows of shape (5,) and dtype float64. It raised: …. Check X against the model's first "
        "layer, or reshape rows with `input_shape`, such as (3, 32, 32).",
    ),
}
