"""The option ``model`` in all its forms, and how clones and pickles carry it."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import torch
from joblib import Memory
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNet
from torch import Tensor, nn

from .._portable import PortableModule
from .._sklearn import to_tensor
from .._torch import resolve_device, seeded_torch
from ..training import fit_gaussian_autoencoder, train_net
from ._shown import ModelShowingEstimator, with_model

__all__ = ["ModelSharingEstimator", "is_made_here", "resolve_module"]


def is_made_here(model: Any) -> bool:
    """Whether the library makes the module, in X's dtype: None or a factory."""
    return model is None or not isinstance(model, nn.Module | NeuralNet | FrozenEstimator)


def resolve_module(
    model: Any, rows: Any, y: np.ndarray | None, seed: int, memory: Memory, dtype: torch.dtype
) -> nn.Module:
    """Return the module that the option ``model`` stands for; ``rows`` are an array, or what skorch reads.

    A module is returned as it is; what it becomes else is new: trained on the rows
    (None, a skorch net), built for their width (a factory), or unwrapped (a
    frozen, fitted net).
    """
    if isinstance(model, nn.Module):
        return model
    if not isinstance(model, FrozenEstimator | NeuralNet) and not isinstance(rows, np.ndarray | Tensor):
        raise ValueError(
            f"`model` must be a module, or a skorch net, where X has parts. Got {model!r}, which is made for the "
            "columns of an array; pass X as one."
        )
    if model is None:
        return fit_gaussian_autoencoder(to_tensor(rows).to(dtype), seed)
    if isinstance(model, FrozenEstimator):
        return _frozen_module(model)
    if isinstance(model, NeuralNet):
        if getattr(model, "initialized_", False):
            warnings.warn(
                "`model` is a net that is already fitted; a clone of it is trained anew on X and y. "
                "Wrap it in `sklearn.frozen.FrozenEstimator` to use it as it is.",
                UserWarning,
                stacklevel=5,
            )
        host = rows.cpu().numpy() if isinstance(rows, Tensor) else rows
        return memory.cache(train_net)(model, host, y, seed).restore()
    if not callable(model):
        raise TypeError(
            "`model` must be a torch module, a factory that builds one, a skorch net or a FrozenEstimator of one. "
            f"Got {type(model).__name__}; pass the net alone, and put other steps of a pipeline before this one."
        )
    with seeded_torch(seed):
        module = model(rows.shape[1])
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"`model` as a factory must return a torch module for `n_features` columns. Got {type(module).__name__}; "
            "pass a class or function that builds one, or a module."
        )
    return module  # as the factory may hand it out again; the fit's own copy takes X's dtype


def _frozen_module(frozen: FrozenEstimator) -> nn.Module:
    module = getattr(frozen.estimator, "module_", None)
    if not isinstance(module, nn.Module):
        raise TypeError(
            "`model` as a FrozenEstimator must hold a fitted skorch net. "
            f"Got {type(frozen.estimator).__name__} without a `module_`; fit it before freezing."
        )
    return module


class _Shared:
    """Shields a module from clone's deep copy."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __sklearn_clone__(self) -> _Shared:
        return self


class ModelSharingEstimator(ModelShowingEstimator):
    """Clones share a pre-trained module; pickles and hashes see its content alone.

    A pickle holds numpy weights, so it loads where there is no CUDA; equal weights
    hash alike in any process, so ``Pipeline(memory=...)`` finds what it stored.
    """

    def __sklearn_clone__(self):
        """Clone the estimator; a pre-trained module is shared, not copied."""
        if not isinstance(self.model, nn.Module):
            return super().__sklearn_clone__()
        shielded = with_model(self, _Shared(self.model))
        cloned = super(ModelSharingEstimator, shielded).__sklearn_clone__()
        cloned.model = self.model
        return cloned

    def __getstate__(self) -> dict[str, Any]:
        """Return the state with modules as numpy weights."""
        state = dict(super().__getstate__())  # a copy: BaseEstimator returns __dict__ itself
        for name, value in state.items():
            if getattr(value, "__name__", None) == "<lambda>":
                raise pickle.PicklingError(
                    f"`{name}` must be a function defined at module level to be pickled or cached. "
                    "Got a lambda; define it with def."
                )
            if isinstance(value, nn.Module):
                state[name] = PortableModule(value)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the modules, the fitted one on the device that ``device`` names here."""
        state = {k: v.restore() if isinstance(v, PortableModule) else v for k, v in state.items()}
        if isinstance(state.get("module_"), nn.Module):
            state["module_"].to(_device_here(state["device"]))
        super().__setstate__(state)


def _device_here(device: str) -> torch.device:
    """Return the device asked for, or the CPU where this machine lacks it."""
    try:
        return resolve_device(device)
    except ValueError:
        return torch.device("cpu")
