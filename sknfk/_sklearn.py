"""All of scikit-learn's private names, and the passage between its arrays and ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import _fit_context as fit_context
from sklearn.callback import CallbackSupportMixin
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
from torch import Tensor

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
    "to_host",
    "to_tensor",
]


def dispatches() -> bool:
    """Whether scikit-learn keeps arrays in their own namespace (array API dispatch)."""
    return bool(get_config()["array_api_dispatch"])


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


def to_tensor(array: Any) -> Tensor:
    """Return an array of any namespace as a detached torch tensor."""
    host = to_host(array)
    return host.detach() if isinstance(host, Tensor) else torch.from_numpy(np.array(host))
