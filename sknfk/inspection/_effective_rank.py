"""How many directions activations and Fisher vectors fill."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.preprocessing import KernelCenterer
from torch import Tensor, nn

from .._layers import layers_named
from .._sklearn import to_host
from .._tokens import takes_tokens
from .._torch import compute_dtype, evaluation_copy, exact_arithmetic, plain_module, resolve_device
from ..batches import Batches

__all__ = ["effective_rank", "layer_spectra", "stable_rank", "variance_share"]

FISHER_VECTORS = "Fisher vectors"


def effective_rank(singular_values: ArrayLike) -> float:
    """Return the effective rank, exp(-sum p log p) of p = s / sum s.

    The number of equal singular values with the same entropy (Roy and Vetterli, "The
    effective rank", 2007).

    Parameters
    ----------
    singular_values : array-like of shape (n_values,)
        In any order; zeros add nothing.

    Returns
    -------
    float
        Between 1 and the number of values; 0 where all are zero.

    Examples
    --------
    >>> from sknfk.inspection import effective_rank
    >>> round(effective_rank([3, 3, 3, 0]), 3)
    3.0
    """
    s = _checked(singular_values)
    if not s.any():
        return 0.0
    p = s[s > 0] / s.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def stable_rank(singular_values: ArrayLike) -> float:
    """Return the stable rank, sum s^2 / max s^2.

    Parameters
    ----------
    singular_values : array-like of shape (n_values,)
        In any order.

    Returns
    -------
    float
        Between 1 and the number of values; 0 where all are zero.

    Examples
    --------
    >>> from sknfk.inspection import stable_rank
    >>> stable_rank([2, 1, 1, 0])
    1.5
    """
    s = _checked(singular_values)
    return float(np.square(s / s.max()).sum()) if s.any() else 0.0


def variance_share(singular_values: ArrayLike, n_components: int) -> float:
    """Return the share of the variance that lies in the leading components.

    Parameters
    ----------
    singular_values : array-like of shape (n_values,)
        All of them, in any order.
    n_components : int
        r, between 1 and the number of values.

    Returns
    -------
    float
        The r largest s^2 over all of them; 1 where all are zero.

    Raises
    ------
    ValueError
        If ``n_components`` is above the number of values.

    Examples
    --------
    >>> from sknfk.inspection import variance_share
    >>> variance_share([3, 1, 0], 1)
    0.9
    """
    s = _checked(singular_values)
    if not 1 <= n_components <= len(s):
        raise ValueError(
            f"`n_components` must be between 1 and the number of singular values, {len(s)}. Got {n_components}; "
            "choose one of them."
        )
    variances = np.sort(np.square(s))[::-1]
    return float(variances[:n_components].sum() / variances.sum()) if s.any() else 1.0


def layer_spectra(
    model: nn.Module,
    X: ArrayLike,
    layers: str | Sequence[str],
    *,
    kernel: Any = None,
    input_shape: tuple[int, ...] | None = None,
    batch_size: int = 128,
    device: str = "auto",
) -> dict[str, np.ndarray]:
    """Return the singular values of layers' centred activations over sqrt(N).

    Their squares are the variances of the principal components, as in scikit-learn's
    ``PCA`` but for its N - 1. Rows are read once, in batches, and never kept: a column
    of ones and the activations are reduced to the R of their QR factorisation whenever
    2 (m + 1) rows have come. R is that of all rows, and without the row and column of
    the ones it is that of the centred ones. Second moments would cost as many numbers
    and square the rounding errors.

    Cost: one forward pass, 2 (m + 1)^2 numbers and 4 N m^2 multiplications for a layer
    of m activations; N m numbers and 2 N^2 m multiplications where N < m. With
    ``kernel``, a kernel matrix of X beside it.

    Parameters
    ----------
    model : Module
        Read on a copy in eval mode; it stays as it is.
    X : array-like of shape (n_samples, ...)
        Examples.
    layers : str or list of str
        Names of layers as in ``named_modules``; their outputs are flattened, and of
        several outputs the first is taken.
    kernel : NFKernel or None, default=None
        A fitted kernel: the spectrum of its Fisher vectors of X, centred on X, joins
        the others under the name "Fisher vectors".
    input_shape : tuple of int or None, default=None
        Shape of one example for the model, where X has flat rows.
    batch_size : int, default=128
        Rows of a forward pass.
    device : str, default="auto"
        Where to compute.

    Returns
    -------
    dict of str to ndarray of shape (min(n_samples, m),)
        Descending singular values by the name of the layer, in float64.

    Raises
    ------
    ValueError
        If the model has no layer of a name, with near names; or if a layer was not
        called.

    See Also
    --------
    effective_rank : Of such values, as stable_rank and variance_share.

    Examples
    --------
    >>> import numpy as np
    >>> from torch import nn
    >>> from sknfk.inspection import effective_rank, layer_spectra
    >>> model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> X = np.random.default_rng(0).normal(size=(50, 5))
    >>> spectra = layer_spectra(model, X, ["1", "2"])
    >>> {name: len(values) for name, values in spectra.items()}
    {'1': 8, '2': 2}
    """
    target = resolve_device(device, model)
    dtype = compute_dtype("auto", model)
    own = evaluation_copy(plain_module(model), target, dtype)
    rows: Any = to_host(X)
    row_shape = tuple(rows.shape[1:]) if input_shape is None else input_shape
    with exact_arithmetic(target):
        read_as = None if takes_tokens(own, row_shape) else dtype
    batches = Batches(rows, batch_size, target, read_as, row_shape)
    factors = {name: _StreamedFactor() for name in layers_named(own, layers)}
    for name, layer in layers_named(own, layers).items():
        layer.register_forward_hook(_feeding(factors[name]))
    with exact_arithmetic(target), torch.no_grad():
        for x in batches:
            own(x.clone())  # a first layer that works in place would change a tensor of the caller
        spectra = {name: _spectrum(factor, name, len(rows)) for name, factor in factors.items()}
    if kernel is not None:
        centred = KernelCenterer().fit_transform(np.asarray(kernel(X), dtype=np.float64))
        values = np.linalg.eigvalsh(centred)[::-1].clip(0)
        spectra[FISHER_VECTORS] = np.sqrt(values / len(rows))
    return spectra


class _StreamedFactor:
    """R of the QR factorisation of all rows so far, a column of ones before them; (n, m + 1) in float64."""

    def __init__(self) -> None:
        self.n_rows = 0
        self._parts: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        self.n_rows += len(rows)
        self._parts.append(torch.cat([torch.ones(len(rows), 1, dtype=torch.float64, device=rows.device), rows], 1))
        if sum(map(len, self._parts)) >= 2 * self._parts[0].shape[1]:
            self._parts = [self.reduced()]

    def reduced(self) -> Tensor:
        return torch.linalg.qr(torch.cat(self._parts), mode="r").R


def _feeding(factor: _StreamedFactor) -> Callable[[nn.Module, Any, Any], None]:
    def feed(layer: nn.Module, inputs: Any, output: Any) -> None:
        factor.add(_first(output).detach().flatten(1).double())

    return feed


def _first(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else _first(next(iter(output)))


def _spectrum(factor: _StreamedFactor, name: str, n_rows: int) -> np.ndarray:
    if factor.n_rows != n_rows:
        raise ValueError(
            f"`layers` must name layers that are called once for each example. '{name}' gave {factor.n_rows} rows for "
            f"{n_rows} examples; name one before or behind it."
        )
    R = factor.reduced()  # (min(N, m + 1), m + 1)
    values = torch.linalg.svdvals(R[1:, 1:]).cpu().numpy() / n_rows**0.5
    return np.pad(values, (0, min(n_rows, R.shape[1] - 1) - len(values)))


def _checked(singular_values: Iterable[float] | ArrayLike) -> np.ndarray:
    s = np.asarray(singular_values, dtype=np.float64).ravel()
    if len(s) == 0 or not np.isfinite(s).all() or (s < 0).any():
        raise ValueError(
            "`singular_values` must be finite, not negative, and at least one. "
            f"Got {len(s)} of them{f', the least {s.min()}' if len(s) else ''}; pass those of `layer_spectra`."
        )
    return s
