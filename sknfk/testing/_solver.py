"""What every solver must do."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from ..solvers import MatrixOperator, Solver, SVDResult
from ._claims import attempt, gaussian, require, require_close

__all__ = ["check_solver"]

K = 5
SHAPES = ((60, 40), (40, 60))  # tall and wide
SEEDS = (0, 1, 2)
# Solvers leave out directions below sqrt(eps) of the leading eigenvalue: their estimate does not see them.
UNSEEN_ENERGY = 1e-8

SPECTRA = {
    # theta_j = 2^-j: the gap behind each leading eigenvalue is its half.
    "decaying": 2.0 ** (-torch.arange(40, dtype=torch.float64) / 2),
    "exactly low-rank": torch.arange(1, K + 4, dtype=torch.float64) ** -1.0,
    "spiked": torch.tensor([3.0, 2.0, 1.0] + [0.1] * 37, dtype=torch.float64),
}


def check_solver(solver: Solver, *, rtol: float = 1e-3) -> None:
    """Check that a solver finds the leading right singular vectors of a matrix.

    On tall and wide matrices with a decaying, an exactly low-rank and a spiked
    spectrum: components are orthonormal rows whose largest entry is positive; singular
    values descend, are the lengths of V times the components and, where the solver
    says that it converged, those of the dense SVD; it converges on the decaying ones;
    the error estimate after two sweeps or more, where there is one, is not below the
    energy lost; a lower rank is the beginning of a higher one; equal generators give
    bitwise equal results, and torch's global one is not used.

    Cost: 21 solves of matrices with 60 x 40 entries.

    Parameters
    ----------
    solver : callable
        ``solver(operator, n_components, generator)``, returns an `SVDResult`.
    rtol : float, default=1e-3
        Error allowed in a singular value, relative to the largest; a solver's own
        tolerance must suit it.

    Raises
    ------
    AssertionError
        If one of these does not hold.

    Examples
    --------
    >>> from sknfk.solvers import BlockKrylov
    >>> from sknfk.testing import check_solver
    >>> check_solver(BlockKrylov())
    """
    for (name, spectrum), shape, seed in itertools.product(SPECTRA.items(), SHAPES, SEEDS):
        V = _matrix(spectrum, shape, seed)
        result = _solve(solver, V, K, seed)
        where = f"on a {name} matrix of shape {shape}"
        _check_components(result, where)
        _check_singular_values(result, V, rtol, where)
        _check_estimate(result, V, where)
        if name == "decaying":
            require(result.converged, f"`solver` must converge {where}. It says that it has not.")
    V = _matrix(SPECTRA["decaying"], SHAPES[0], seed=0)
    high, again, low = (_solve(solver, V, n_components, seed=0) for n_components in (K, K, 3))
    _check_equal(high, again)
    _check_nesting(low, high, rtol)


def _matrix(spectrum: Tensor, shape: tuple[int, int], seed: int) -> Tensor:
    """Return a matrix of this shape with these singular values and random singular vectors."""
    generator = torch.Generator().manual_seed(1000 + seed)  # not the solver's: its start must be fresh
    U, W = (torch.linalg.qr(gaussian((side, len(spectrum)), generator, spectrum))[0] for side in shape)
    return (U * spectrum) @ W.T


def _solve(solver: Solver, V: Tensor, n_components: int, seed: int) -> SVDResult:
    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(seed)
    claim = f"`solver` must serve a matrix of shape {tuple(V.shape)} and n_components={n_components}"
    result = attempt(claim, lambda: solver(MatrixOperator(V), n_components, generator))
    require(
        torch.equal(before, torch.get_rng_state()),
        "`solver` must leave torch's global random state alone. It has changed it; draw from `generator`.",
    )
    components, singular_values = V.new_zeros(n_components, V.shape[1]), V.new_zeros(n_components)
    require_close(result.components, components, "`components` must be of shape (K, P), in V's dtype", rtol=torch.inf)
    require_close(
        result.singular_values,
        singular_values,
        "`singular_values` must be of shape (K,), in float64",
        rtol=torch.inf,
    )
    return result


def _check_components(result: SVDResult, where: str) -> None:
    components = result.components
    require_close(components @ components.T, torch.eye(K).double(), f"`components` must be orthonormal {where}")
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))  # (K, 1)
    negative = int((largest < 0).sum())
    require(
        negative == 0,
        f"The entry of largest modulus of each component must be positive {where}. Got {negative} of {K} negative.",
    )


def _check_singular_values(result: SVDResult, V: Tensor, rtol: float, where: str) -> None:
    found = result.singular_values  # (K,)
    descends = bool((found.diff() <= 0).all())
    require(descends, f"`singular_values` must descend {where}. Got {found.tolist()}.")
    truth = {"the lengths of V times the components": torch.linalg.vector_norm(V @ result.components.T, dim=0)}
    if result.converged:  # a solver that says it has not may be far off
        truth["those of the dense SVD"] = torch.linalg.svdvals(V)[:K]
    for what, expected in truth.items():
        error = float((found - expected).abs().max() / torch.linalg.matrix_norm(V, ord=2))
        require(
            error <= rtol,
            f"`singular_values` must be {what} {where}. Got an error of {error:.1e} relative to the largest; "
            f"at most {rtol:.0e} is allowed.",
        )


def _check_estimate(result: SVDResult, V: Tensor, where: str) -> None:
    if math.isnan(result.error_estimate) or result.n_sweeps < 2:
        return  # there is none, or it is of a random block
    energy = float((V @ result.components.T).square().sum())
    lost = 1 - energy / float(torch.linalg.svdvals(V)[:K].square().sum())
    require(
        lost <= result.error_estimate + UNSEEN_ENERGY,
        f"`error_estimate` must not be below the share of energy lost {where}. "
        f"Got {result.error_estimate:.1e} where {lost:.1e} is lost.",
    )


def _check_equal(first: SVDResult, second: SVDResult) -> None:
    difference = float((first.components - second.components).abs().max())
    require(
        torch.equal(first.components, second.components) and torch.equal(first.singular_values, second.singular_values),
        "`solver` must give bitwise equal results with equal generators. "
        f"Components of two calls differ by {difference:.1e}.",
    )


def _check_nesting(low: SVDResult, high: SVDResult, rtol: float) -> None:
    n_low = len(low.components)
    # An error of rtol in theta is a squared sine of at most rtol over the relative gap, 1/8 here.
    cosines = (low.components * high.components[:n_low]).sum(1).abs()
    distance = float((1 - cosines).max())
    require(
        distance <= 16 * rtol,
        f"The components of rank {n_low} must be the first of rank {K}. "
        f"Got 1 - |cosine| = {distance:.1e}; at most {16 * rtol:.0e} is allowed.",
    )
