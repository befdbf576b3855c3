"""All of scikit-learn's private names, and the passage between its arrays and ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import _fit_context as fit_context
from sklearn.utils._array_api import (
    _convert_to_numpy,
    _is_numpy_namespace,
    check_same_namespace,
    get_namespace,
)
from sklearn.utils._array_api import (
    device as array_device,
)
from sklearn.utils._param_validation import HasMethods, Interval, RealNotInt, StrOptions
from sklearn.utils._pprint import _EstimatorPrettyPrinter
from torch import Tensor

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # it is experimental and may go

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn knows no callbacks."""


__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "RealNotInt",
    "StrOptions",
    "array_like",
    "check_same_namespace",
    "dispatches",
    "fit_context",
    "has_callbacks",
    "native",
    "print_as",
    "readable",
    "restored_on_failure",
    "to_host",
    "to_tensor",
]


_FLOATS_OF_NUMPY = (torch.float16, torch.float32, torch.float64)

# What scikit-learn keeps on an estimator while its callbacks are told of a fit, and takes off itself.
_CALLBACK_STATE = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")


def has_callbacks(estimator: Any) -> bool:
    """Whether callbacks listen to the fit of an estimator: its own, or a pipeline's."""
    return bool(getattr(estimator, "_skl_callbacks", None)) or hasattr(estimator, "_parent_callback_ctx")


@contextlib.contextmanager
def restored_on_failure(estimator: Any) -> Iterator[None]:
    """Leave an estimator as it was if a fit fails or is interrupted."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        kept = {name: vars(estimator)[name] for name in _CALLBACK_STATE if name in vars(estimator)}
        vars(estimator).clear()
        vars(estimator).update(before | kept)
        raise


def print_as(cls: type, shown: Callable[[Any], Any]) -> None:
    """Let scikit-learn print estimators of a class as ``shown`` returns them, inside pipelines too.

    The class must have a ``__repr__`` of its own: by it the printer knows the class.
    """

    def write(printer: Any, estimator: Any, *place: Any) -> None:
        printer._pprint_estimator(shown(estimator), *place)

    _EstimatorPrettyPrinter._dispatch[cls.__repr__] = write


def dispatches() -> bool:
    """Whether scikit-learn keeps arrays in their own namespace (array API dispatch)."""
    return bool(get_config()["array_api_dispatch"])


def readable(X: Any) -> Any:
    """Return X, a tensor without dispatch as numpy of its dtype: validation would make it float64.

    numpy has no bfloat16 and no floats of 8 bits; float32 holds their values.
    """
    if not isinstance(X, Tensor) or dispatches():
        return X
    host = X.detach().cpu()
    return (host.float() if host.dtype.is_floating_point and host.dtype not in _FLOATS_OF_NUMPY else host).numpy()


def to_host(array: Any) -> np.ndarray | Tensor:
    """Return an array of any namespace as numpy, or as a torch tensor if it is one."""
    if isinstance(array, Tensor | np.ndarray):
        return array
    xp, is_array_api = get_namespace(array)
    if is_array_api and not _is_numpy_namespace(xp):
        return _convert_to_numpy(array, xp)
    return np.asarray(array)


def array_like(values: Tensor, reference: Any) -> Any:
    """Return a tensor as an array in the namespace and on the device of ``reference``.

    Without array API dispatch that is numpy, whatever the reference.
    """
    xp, _ = get_namespace(reference)
    if _is_numpy_namespace(xp):
        return values.detach().cpu().numpy()
    if isinstance(reference, Tensor):
        return values.detach().to(reference.device)
    return xp.asarray(values.detach().cpu().numpy(), device=array_device(reference))


def native(array: np.ndarray) -> np.ndarray:
    """Return an array in a dtype that torch has: in the machine's byte order, at most float64."""
    dtype = np.dtype(np.float64) if array.dtype.type is np.longdouble else array.dtype.newbyteorder("=")
    return array.astype(dtype, copy=False)


def to_tensor(array: Any) -> Tensor:
    """Return an array of any namespace as a detached torch tensor."""
    host = to_host(array)
    return host.detach() if isinstance(host, Tensor) else torch.from_numpy(np.array(native(host)))
