"""What every operator must do."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..solvers import Operator, ScipyFace
from ._claims import FLOAT64_RTOL, gaussian, require, require_close

__all__ = ["check_operator"]

RTOL = {torch.float64: FLOAT64_RTOL, torch.float32: 1e-5}
MAX_SIDE = 4096
N_PROBES = 3


def check_operator(operator: Operator | ScipyFace, *, rtol: float | None = None) -> None:
    """Check that an operator is one matrix, from whatever side it is seen.

    The matrices formed by `matmat` and by `rmatmat` agree and have the shape, dtype
    and device stated; both products are linear, leave their input alone and do not
    change from call to call, even if what they returned is overwritten; `sweep` and
    `gram` are of the same matrix. Of a scipy face, the operator behind it and the four
    products are checked.

    Cost: eight visits, four more for a face, and (N + P)^2 numbers.

    Parameters
    ----------
    operator : Operator or ScipyFace
        What is checked, of at most 4,096 rows and columns.
    rtol : float, optional
        Norm of a difference allowed, relative to that of what is compared. None is
        1e-10 in float64 and 1e-5 in float32.

    Raises
    ------
    AssertionError
        If one of these does not hold.

    Examples
    --------
    >>> import torch
    >>> from sknfk.solvers import MatrixOperator
    >>> from sknfk.testing import check_operator
    >>> check_operator(MatrixOperator(torch.eye(3)))
    """
    core = operator.torch if isinstance(operator, ScipyFace) else operator
    require(
        isinstance(core, Operator) and core.dtype in RTOL,
        "`operator` must have `shape`, `device`, `matmat`, `rmatmat`, `sweep`, `gram` and a `dtype` that is "
        f"torch.float32 or torch.float64. Got {type(core).__name__} of {getattr(core, 'dtype', 'no dtype')}.",
    )
    if max(core.shape) > MAX_SIDE:
        raise ValueError(
            f"`operator` must have at most {MAX_SIDE} rows and columns, as the check forms it. "
            f"Got {tuple(core.shape)}; make a smaller one."
        )
    rtol = RTOL[core.dtype] if rtol is None else rtol
    V = _formed(core, rtol)  # (N, P)
    _check_products(core, V, rtol)
    _check_fused(core, V, rtol)
    if isinstance(operator, ScipyFace):
        _check_face(operator, V, rtol)


def _formed(operator: Operator, rtol: float) -> Tensor:
    N, P = operator.shape
    stated = torch.zeros(N, P, dtype=operator.dtype, device=operator.device)
    V = operator.matmat(torch.eye(P, dtype=operator.dtype, device=operator.device))
    stated_too = "must give the shape, dtype and device that `operator` states"
    require_close(V, stated, f"`matmat` {stated_too}", rtol=torch.inf)
    Vt = operator.rmatmat(torch.eye(N, dtype=operator.dtype, device=operator.device))
    require_close(Vt, stated.T, f"`rmatmat` {stated_too}", rtol=torch.inf)
    require_close(Vt.T, V, "`rmatmat` must be the adjoint of `matmat`", rtol)
    return V


def _check_products(operator: Operator, V: Tensor, rtol: float) -> None:
    generator = torch.Generator().manual_seed(0)
    W = gaussian((N_PROBES, V.shape[1]), generator, V).T  # (P, L), columns of a wider array
    Y = gaussian((N_PROBES, V.shape[0]), generator, V).T  # (N, L)
    for name, multiply, block, expected in (
        ("matmat", operator.matmat, W, V @ W),
        ("rmatmat", operator.rmatmat, Y, V.T @ Y),
    ):
        given = block.clone()
        product = multiply(block)
        require(torch.equal(block, given), f"`{name}` must leave its input alone. It has overwritten it.")
        require_close(product, expected, f"`{name}` must be linear in its input", rtol)
        product.zero_()  # what is returned belongs to the caller
        require_close(multiply(block), expected, f"`{name}` must give the same product twice", rtol)


def _check_fused(operator: Operator, V: Tensor, rtol: float) -> None:
    generator = torch.Generator().manual_seed(1)
    W = gaussian((V.shape[1], N_PROBES), generator, V)  # (P, L)
    YtY, CW = operator.sweep(W)  # (L, L), (P, L) where C = V^T V
    Y = V @ W  # (N, L)
    expected = Y.double().T @ Y.double()
    require_close(YtY, expected, "The first part of `sweep(W)` must be W^T V^T V W, in float64", rtol)
    require_close(CW, V.T @ Y, "The second part of `sweep(W)` must be V^T V W", rtol)
    require_close(operator.gram(), V.double() @ V.double().T, "`gram()` must be V V^T, in float64", rtol)


def _check_face(face: ScipyFace, V: Tensor, rtol: float) -> None:
    matrix = V.cpu().numpy()
    require(
        tuple(face.shape) == matrix.shape and face.dtype == matrix.dtype,
        f"The face must have its operator's shape and dtype, {matrix.shape} and {matrix.dtype}. "
        f"Got {tuple(face.shape)} and {face.dtype}.",
    )
    rng = np.random.default_rng(0)
    W = rng.normal(size=(matrix.shape[1], N_PROBES)).astype(matrix.dtype)  # (P, L)
    Y = rng.normal(size=(matrix.shape[0], N_PROBES)).astype(matrix.dtype)  # (N, L)
    for name, found, expected in (
        ("matvec", face.matvec(W[:, 0]), matrix @ W[:, 0]),
        ("rmatvec", face.rmatvec(Y[:, 0]), matrix.T @ Y[:, 0]),
        ("matmat", face.matmat(W), matrix @ W),
        ("rmatmat", face.rmatmat(Y), matrix.T @ Y),
    ):
        claim = f"`{name}` of the face must be that of its operator"
        require_close(torch.from_numpy(found), torch.from_numpy(expected), claim, rtol)
