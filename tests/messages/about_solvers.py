"""Messages about solvers: (trigger, class, message)."""

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning

from sknfk.solvers import MatrixOperator, ScipySVDS, make_solver, truncated_svd

from ..cases import rows

MATRIX = torch.from_numpy(rows(20, 30))


def svd(operator=MATRIX, n_components=3, **options):
    return truncated_svd(operator, n_components, **options)


class Plain:
    """An operator that says nothing of its trace, and may give what is not finite."""

    def __init__(self, matrix):
        core = MatrixOperator(matrix.clone().fill_(1)) if not matrix.isfinite().all() else MatrixOperator(matrix)
        self.shape, self.dtype, self.device = core.shape, core.dtype, core.device
        self.matrix = matrix

    def matmat(self, W):
        return self.matrix @ W

    def rmatmat(self, Y):
        return self.matrix.T @ Y

    def sweep(self, W):
        Y = self.matrix @ W
        return Y.T @ Y, self.matrix.T @ Y

    def gram(self):
        return self.matrix @ self.matrix.T


def with_infinity():
    broken = MATRIX.clone()
    broken[3, 4] = torch.inf
    return Plain(broken)


SOLVER_NAMES = "('krylov', 'subspace', 'exact', 'sketch', 'sketch-refined', 'paper', 'arpack', 'propack', 'lobpcg')"


MESSAGES = {
    "no operator": (
        lambda: svd([[1.0]]),
        TypeError,
        "`operator` must be a 2-D matrix or have `shape`, `dtype`, `device`, `matmat`, `rmatmat`, `sweep` and `gram`. "
        "Got list; wrap a dense matrix in `MatrixOperator`.",
    ),
    "an array of integers": (
        lambda: svd(np.ones((3, 3), dtype=int)),
        TypeError,
        "`operator` must hold float32 or float64 numbers. Got int64; convert it with `.astype`.",
    ),
    "a tensor of half precision": (
        lambda: svd(torch.ones(3, 3).half()),
        TypeError,
        "`operator` must hold float32 or float64 numbers. Got torch.float16; cast it by `.float()`.",
    ),
    "a matrix that is none": (
        lambda: svd(torch.ones(3)),
        ValueError,
        "`operator` must be a matrix of shape (N, P) with no empty side. Got shape (3,); pass one row per example.",
    ),
    "a matrix with NaN": (
        lambda: svd(torch.full((3, 3), torch.nan)),
        ValueError,
        "`operator` must be finite. Got 9 entries that are NaN or infinite; remove those rows.",
    ),
    "products that are not finite": (
        lambda: svd(with_infinity(), solver="krylov"),
        ValueError,
        "The products of `operator` must be finite. Got NaN or infinity; look for examples whose row is not finite, or "
        "scale the operator down if its squares overflow.",
    ),
    "too many components for scipy": (
        lambda: ScipySVDS("arpack")(MatrixOperator(MATRIX), 20, torch.Generator()),
        ValueError,
        "`n_components` (or `max_components`) must be at most 19 for solver='arpack' on a matrix of shape (20, 30). "
        "Got 20; lower it or use solver='exact'.",
    ),
    "no such solver": (
        lambda: make_solver("magic"),
        ValueError,
        f"`solver` must be 'auto' or one of {SOLVER_NAMES}. Got 'magic'; choose one of them.",
    ),
    "an operator that cannot be sketched": (
        lambda: svd(Plain(MATRIX), solver="sketch"),
        TypeError,
        "`operator` must have a method `sketch` for the solvers 'sketch' and 'sketch-refined'. Got Plain; give it one, "
        "or choose solver='krylov'.",
    ),
    "no such solver for a matrix": (
        lambda: svd(solver="magic"),
        ValueError,
        f"`solver` must be 'auto' or one of {SOLVER_NAMES}. Got 'magic'; choose one of them.",
    ),
    "a share above one": (
        lambda: svd(n_components=1.5),
        ValueError,
        "`n_components` must be an int of at least 1 or a float in (0, 1). Got 1.5; pass a number of components, or a "
        "share of the trace.",
    ),
    "no components": (
        lambda: svd(n_components=0),
        ValueError,
        "`n_components` must be an int of at least 1. Got 0; pass a number of components.",
    ),
    "more components than rank": (
        lambda: svd(n_components=21),
        ValueError,
        "`n_components` must be at most min(n_samples, n_parameters) = 20. Got 21; lower it or pass more data.",
    ),
    "a share without the trace": (
        lambda: svd(Plain(MATRIX), 0.5),
        ValueError,
        "`trace` must be given when `n_components` is a share. Got None; pass ||V||_F^2, or an int `n_components`.",
    ),
    "a trace below zero": (
        lambda: svd(n_components=0.5, trace=-1.0),
        ValueError,
        "`trace` must be finite and not negative. Got -1.0; pass ||V||_F^2.",
    ),
    "a start for exact": (
        lambda: svd(solver="exact", start=torch.ones(30, 3, dtype=torch.float64)),
        ValueError,
        "`start` must be None for solver='exact'. Only 'krylov' and 'subspace' take one; leave it out.",
    ),
    "a start of another shape": (
        lambda: svd(solver="krylov", start=torch.ones(20, 3, dtype=torch.float64)),
        ValueError,
        "`start` must be finite and of shape (30, any), one row per parameter. Got shape (20, 3); transpose it, or "
        "leave it out for a random one.",
    ),
    "tol": (
        lambda: svd(tol=1.0),
        ValueError,
        "`tol` must be in [0, 1). Got 1.0; 1e-3 loses a thousandth of the leading energy.",
    ),
    "max_sweeps": (
        lambda: svd(max_sweeps=0),
        ValueError,
        "`max_sweeps` must be 'auto' or an int of at least 1. Got 0; pass 'auto'.",
    ),
    "n_oversamples": (
        lambda: svd(n_oversamples=-1),
        ValueError,
        "`n_oversamples` must be an int of at least 0. Got -1; 10 serves well.",
    ),
    "generator of numbers": (
        lambda: svd(generator=0),
        TypeError,
        "`generator` must be a torch.Generator on the CPU or None. Got 0; pass torch.Generator().manual_seed(seed).",
    ),
    "a solver out of sweeps": (
        lambda: svd(solver="subspace", max_sweeps=1, tol=1e-9, n_oversamples=1),
        ConvergenceWarning,
        "solver='subspace' reached an error estimate of …, above tol=1.0e-09, after 1 sweeps; raise `max_sweeps` or "
        "`tol`.",
    ),
    "a share that is missed": (
        lambda: svd(n_components=0.9, max_components=2, solver="krylov"),
        UserWarning,
        "`max_components`=2 must suffice for a share of 0.9 of the trace. Got 0.… with 2 components, and the decay of "
        "the spectrum projects …; raise `max_components` or ask for a smaller share.",
    ),
}
