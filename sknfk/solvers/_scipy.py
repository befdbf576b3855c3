"""The faces between scipy and an operator: ours to scipy, scipy's solvers to us."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from math import nan
from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, svds
from torch import Tensor

from ._operator import Operator
from ._orthonormal import complete, descending_eigh, flip_signs, inner, random_block
from ._result import SVDResult
from ._share import RankRule, as_rank_rule

__all__ = ["ScipyFace", "ScipySVDS"]

# scipy 1.15 renamed it.
SEED_KEYWORD = "rng" if "rng" in inspect.signature(svds).parameters else "random_state"

# Gaussian vectors that estimate the trace; a few tell its size.
N_PROBES = 8


class ScipyFace(LinearOperator):
    """An operator as a scipy ``LinearOperator`` of shape (N, P), numpy in and out.

    All four products are explicit, so that each visits the data once; scipy's own
    defaults would visit it once for every column.

    Parameters
    ----------
    operator : Operator

    Attributes
    ----------
    torch : Operator
        What it shows.
    n_visits : int
        Products made through this face.
    """

    torch: Operator

    def __init__(self, operator: Operator) -> None:
        super().__init__(torch.empty(0, dtype=operator.dtype).numpy().dtype, operator.shape)
        self.torch = operator
        self.n_visits = 0

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        self.n_visits += 1
        return self.torch.matmat(self._to_torch(X)).cpu().numpy()

    def _rmatmat(self, X: np.ndarray) -> np.ndarray:
        self.n_visits += 1
        return self.torch.rmatmat(self._to_torch(X)).cpu().numpy()

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(x.reshape(-1, 1)).ravel()

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._rmatmat(x.reshape(-1, 1)).ravel()

    def _to_torch(self, X: np.ndarray) -> Tensor:
        # A copy: scipy hands out read-only and strided arrays, which torch cannot view.
        return torch.from_numpy(X.copy()).to(device=self.torch.device, dtype=self.torch.dtype)


@dataclass(frozen=True)
class ScipySVDS:
    """Find the leading singular vectors of V by `scipy.sparse.linalg.svds`.

    Cost: two visits for each step of a single vector (ARPACK, PROPACK) or of a block
    (LOBPCG, and one visit for its scale); vectors cross to numpy and back each time.
    There is no error estimate. Where scipy gives up, random directions stand for the
    vectors that it has not found, and `converged` is False.

    Parameters
    ----------
    solver : {"arpack", "propack", "lobpcg"}
    tol : float
        Relative: ARPACK stops when the residual of each eigenvalue of V^T V is `tol`
        times that eigenvalue, PROPACK when each singular value has that accuracy,
        LOBPCG when each residual is `tol` times the mean eigenvalue. The energy lost
        is quadratic in a residual, and so well below `tol`. 0 is machine precision.
    max_iterations : int or None
        Bound on the iterations, as ``maxiter`` of svds; None is scipy's own (20 for LOBPCG).
    """

    solver: Literal["arpack", "propack", "lobpcg"] = "arpack"
    tol: float = 1e-3
    max_iterations: int | None = None

    def __call__(self, operator: Operator, n_components: int | RankRule, generator: torch.Generator) -> SVDResult:
        """Run svds through a face of the operator, from a seeded start."""
        rule = as_rank_rule(n_components)
        self._validate(operator, rule.max_components)
        face = ScipyFace(operator)
        found, converged = self._solve(face, rule.max_components, generator)  # (found, P)
        components = torch.from_numpy(found.copy()).to(device=operator.device, dtype=operator.dtype)
        return _finish(components, face, rule, generator, self.solver, converged)

    def _validate(self, operator: Operator, n_components: int) -> None:
        smaller = min(operator.shape)
        limit = smaller if self.solver == "propack" else smaller - 1
        if n_components > limit:
            raise ValueError(
                f"`n_components` (or `max_components`) must be at most {limit} for solver='{self.solver}' "
                f"on a matrix of shape {tuple(operator.shape)}. "
                f"Got {n_components}; lower it or use solver='exact'."
            )

    def _solve(self, face: ScipyFace, n_components: int, generator: torch.Generator) -> tuple[np.ndarray, bool]:
        """Return right singular vectors in rows, and whether scipy is content."""
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        options: dict[str, Any] = {
            "k": n_components,
            "tol": self._scipy_tol(face, generator),
            "solver": self.solver,
            "maxiter": self.max_iterations,
            SEED_KEYWORD: np.random.default_rng(seed),
        }
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                rows = svds(face, **options)[2]
            except ArpackNoConvergence as error:
                return _parameter_side(face, error.eigenvectors), False
            except ArpackError as error:
                if "error -9" not in str(error):
                    raise
                # V maps a random start to zero, so V is zero: no direction is better than another.
                return np.empty((0, face.shape[1])), True
        # LOBPCG warns of much else, such as a small matrix that it diagonalises whole.
        return rows, not any("not reaching" in str(warning.message) for warning in caught)

    def _scipy_tol(self, face: ScipyFace, generator: torch.Generator) -> float:
        """Return what svds is to be told; it squares its `tol` before use."""
        if self.solver != "lobpcg":
            return self.tol**0.5
        # LOBPCG's tolerance is absolute. E ||V w||^2 = ||V||_F^2 for Gaussian w.
        probes = random_block(face.shape[1], N_PROBES, generator, face.torch.dtype, torch.device("cpu"))
        Y = face.matmat(probes.numpy())  # (N, N_PROBES)
        trace = np.square(Y, dtype=np.float64).sum() / N_PROBES
        return float((self.tol * trace / min(face.shape)) ** 0.5)


def _parameter_side(face: ScipyFace, eigenvectors: np.ndarray) -> np.ndarray:
    """Turn eigenvectors of the smaller of V^T V and V V^T into rows of length P."""
    n_examples, n_parameters = face.shape
    if eigenvectors.shape[1] == 0:
        return np.empty((0, n_parameters))
    columns = eigenvectors if n_examples >= n_parameters else face.rmatmat(eigenvectors)
    return np.linalg.qr(columns)[0].T


def _finish(
    found: Tensor, face: ScipyFace, rule: RankRule, generator: torch.Generator, solver: str, converged: bool
) -> SVDResult:
    """Complete, order by length of V p and cut to rank. Cost: one visit."""
    Q = complete(torch.linalg.qr(found.T)[0], rule.max_components, generator)  # (P, K)
    Y = face.torch.matmat(Q)  # (N, K)
    theta, S = descending_eigh(inner(Y, Y))
    K = rule.rank(theta)
    return SVDResult(
        components=flip_signs((Q @ S[:, :K].to(Q.dtype)).T).contiguous(),
        singular_values=theta[:K].sqrt(),
        error_estimate=nan,
        n_sweeps=face.n_visits + 1,
        solver=solver,
        converged=converged,
    )
