"""A fitted transformer as one file of arrays and JSON, and back: no code travels."""

from __future__ import annotations

import os
from importlib.metadata import version
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from .._portable import fingerprint
from .._sklearn import to_tensor
from .._torch import evaluation_copy, plain_module, resolve_device
from ..batches import Field
from ..persistence import read_arrays, write_arrays
from ..training import GaussianAutoencoder
from ._models import is_made_here
from ._rows import RowFormat
from ._saved_density import densities_content, restored_densities

__all__ = ["Saved"]

FORMAT = 1
ARRAYS = (
    "components_",
    "singular_values_",
    "explained_variance_",
    "explained_variance_ratio_",
    "mean_score_",
    "information_",
    "scale_",
)
PLAIN = (
    "total_variance_",
    "mean_shift_",
    "n_components_",
    "error_estimate_",
    "n_sweeps_",
    "solver_",
    "engine_",
    "batch_size_",
    "n_parameters_",
    "parameter_names_",
    "dead_fraction_",
    "n_features_in_",
    "_forming",
    "_sketch_seed",
)
# Options that the file does not hold as they are given: code, or objects of this process.
LEFT_OUT = ("model", "density", "parameters", "statistics", "memory", "random_state", "checkpoint", "device")


class Saved:
    """Methods ``save`` and ``load``."""

    def save(self, path: str | os.PathLike) -> None:
        """Write the fitted transformer to one safetensors file.

        A digest covers every byte of it. The weights of ``model`` are in it only if they
        exist nowhere else, as where the model was made or trained in ``fit``; else a
        fingerprint of them is. Functions and networks of ``density`` are not, nor a
        generator given as ``random_state``, nor what belongs to this machine:
        ``memory``, ``checkpoint`` and ``device`` have their defaults after loading.

        Parameters
        ----------
        path : str or path-like
            Where; what is there is replaced.

        Raises
        ------
        ImportError
            If safetensors is missing: ``pip install sknfk[io]``.
        ValueError
            If the density has found in ``fit`` what no such file holds.
        """
        check_is_fitted(self)
        save_fitted(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike, model: Any = None, *, density: Any = None) -> Any:
        """Read a transformer that :meth:`save` has written; no code in the file is run.

        Parameters
        ----------
        path : str or path-like
            Where.
        model : Module or None, default=None
            The module that it was fitted with: with the same weights, or with any where
            the file holds them. None serves ``NFKTransformer(model=None)`` alone.
        density : Density, callable or None, default=None
            The density, where it holds functions or networks.

        Returns
        -------
        NFKTransformer
            Fitted; ``transform`` gives what it gave.

        Raises
        ------
        DamagedFileError
            If the file is not, byte for byte, what was written.
        ValueError
            If the model or the density is missing or another one; it names what differs.
        """
        return load_fitted(cls, path, model, density)


def save_fitted(nfk: Any, path: str | os.PathLike) -> None:
    """Write a fitted transformer; see :meth:`Saved.save`."""
    options = nfk.get_params(deep=False)
    tensors: dict[str, Tensor] = {name: to_tensor(getattr(nfk, name)) for name in ARRAYS}
    content = {
        "format": FORMAT,
        "class": type(nfk).__name__,
        "versions": {name: version(name) for name in ("sknfk", "torch", "numpy", "scikit-learn")},
        "options": {name: value for name, value in options.items() if name not in LEFT_OUT},
        "random_state": options["random_state"] if isinstance(options["random_state"], Integral) else None,
        "parameters": options["parameters"] if isinstance(options["parameters"], str | list | None) else None,
        "statistics": options["statistics"] if isinstance(options["statistics"], str) else None,
        "fitted": {name: getattr(nfk, name) for name in PLAIN if hasattr(nfk, name)},
        "feature_names": [str(name) for name in getattr(nfk, "feature_names_in_", ())],
        "work_dtype": _name_of(nfk._work_dtype),
        "rows": {
            "given": nfk._rows_as.given,
            "wanted": nfk._rows_as.wanted,
            "parts": [[part.name, part.shape, _name_of(part.dtype)] for part in nfk._rows_as.parts],
            "dtype": None if nfk._rows_as.dtype is None else _name_of(nfk._rows_as.dtype),
        },
        "model": _described(nfk.module_),
        "has_weights": is_fitted_here(options["model"]),
    }
    if callable(options["parameters"]) or isinstance(options["parameters"], tuple):
        content["parameters"] = list(nfk.parameter_names_)
    if content["statistics"] is None:
        tensors["statistics"] = to_tensor(options["statistics"])
    of_densities, drawn = densities_content(options["density"], nfk.density_)
    content |= of_densities
    tensors |= drawn
    if content["has_weights"]:
        tensors |= {f"module.{name}": value for name, value in nfk.module_.state_dict().items()}
    write_arrays(path, tensors, content)


def load_fitted(cls: type, path: str | os.PathLike, model: Any, density: Any) -> Any:
    """Read a fitted transformer; see :meth:`Saved.load`."""
    tensors, content = read_arrays(path)
    if content.get("format") != FORMAT or content.get("class") != cls.__name__:
        told = "another kind of file, such as a checkpoint; name one that `save` wrote"
        if "class" in content:
            told = f"{content['class']!r} of format {content.get('format')!r}; load it with {content.get('versions')}"
        raise ValueError(f"'{path}' must hold a fitted {cls.__name__} of format {FORMAT}. Got {told}.")
    dtype = getattr(torch, content["work_dtype"])
    module = _module(path, content, tensors, model, dtype)
    given, prepared = restored_densities(path, content, tensors, density, next(module.parameters()).device)
    statistics = content["statistics"]
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in content["options"].items()}
    nfk = cls(
        model,
        **options,
        density=given,
        parameters=content["parameters"],
        statistics=tensors["statistics"].numpy() if statistics is None else statistics,
        random_state=content["random_state"],
    )
    nfk.module_ = module
    nfk.density_ = prepared
    for name in ARRAYS:
        setattr(nfk, name, tensors[name].numpy())
    for name in PLAIN:
        if name in content["fitted"]:
            setattr(nfk, name, content["fitted"][name])
    if content["feature_names"]:
        nfk.feature_names_in_ = np.array(content["feature_names"], dtype=object)
    rows = content["rows"]
    row_dtype = None if rows["dtype"] is None else getattr(torch, rows["dtype"])
    given, wanted = (None if rows[name] is None else tuple(rows[name]) for name in ("given", "wanted"))
    parts = tuple(Field(name, tuple(shape), getattr(torch, dtype)) for name, shape, dtype in rows["parts"])
    nfk._rows_as = RowFormat(given, wanted, row_dtype, parts)
    nfk._work_dtype = dtype
    nfk._decided = None  # the engine finds it out again
    return nfk


def is_fitted_here(model: Any) -> bool:
    """Whether the weights of a module exist nowhere but in the fitted estimator."""
    return is_made_here(model) or not isinstance(model, nn.Module)


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _described(module: nn.Module) -> dict[str, Any]:
    return {
        "class": type(module).__name__,
        "fingerprint": fingerprint(module),
        "shapes": {name: list(p.shape) for name, p in module.named_parameters()},
    }


def _module(
    path: str | os.PathLike, content: dict[str, Any], tensors: dict[str, Tensor], model: Any, dtype: torch.dtype
) -> nn.Module:
    """Return the module that a file was saved with: the one given, or the default one rebuilt."""
    described = content["model"]
    if model is None and described["class"] == GaussianAutoencoder.__name__ and content["has_weights"]:
        # Not from the columns of X, which are others where its rows have several axes, or none in a data set.
        model = GaussianAutoencoder(described["shapes"]["encoder.weight"][1])
    if not isinstance(model, nn.Module):
        told = ", ".join(f"{name} {tuple(shape)}" for name, shape in list(described["shapes"].items())[:4])
        weights = "of any weights, which the file holds" if content["has_weights"] else "with its weights"
        raise ValueError(
            f"`model` must be given to load '{path}': the module {described['class']} {weights} ({told}, "
            f"{len(described['shapes'])} parameters in all). Got {type(model).__name__}; pass it."
        )
    module = evaluation_copy(plain_module(model), resolve_device("auto", model), dtype)
    shapes = {name: list(p.shape) for name, p in module.named_parameters()}
    for name, shape in described["shapes"].items():
        if shapes.get(name) != shape:
            found = "no such parameter" if name not in shapes else f"shape {tuple(shapes[name])}"
            raise ValueError(
                f"`model` must be the {described['class']} that '{path}' was saved with, whose parameter '{name}' has "
                f"shape {tuple(shape)}. Got {found}; build the same architecture."
            )
    if content["has_weights"]:
        own = {name.removeprefix("module."): t for name, t in tensors.items() if name.startswith("module.")}
        module.load_state_dict(own)
    if fingerprint(module) != described["fingerprint"]:
        raise ValueError(
            f"`model` must have the weights that '{path}' was saved with. Got the same shapes with other values or "
            "layers; load the weights that the transformer was fitted with."
        )
    return module
