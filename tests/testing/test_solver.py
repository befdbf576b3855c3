"""`check_solver` passes on our solvers, and each of its claims fails on an example that breaks it."""

from dataclasses import replace

import pytest
import torch

from sknfk.solvers import (
    SOLVERS,
    Exact,
    SubspaceIteration,
    make_solver,
)
from sknfk.testing import check_solver


@pytest.mark.parametrize("name", SOLVERS)
def test_check_solver_passes_on_every_solver_with_its_defaults(name):
    check_solver(make_solver(name))


TIGHT_RTOL = 1e-7  # sqrt(eps) of a float64 Gram matrix, with a margin


@pytest.mark.parametrize("name", ["krylov", "subspace", "exact"])
def test_check_solver_passes_tightly_on_tight_solvers(name):
    check_solver(make_solver(name, tol=1e-14, max_sweeps=200), rtol=TIGHT_RTOL)


def altered(change):
    """Return the exact solver with its result changed."""

    def solver(operator, n_components, generator):
        return change(Exact()(operator, n_components, generator), n_components)

    return solver


def one_too_many(result, n_components):
    return replace(result, components=result.components.repeat(2, 1))


def float32_values(result, n_components):
    return replace(result, singular_values=result.singular_values.float())


def stretched(result, n_components):
    return replace(result, components=1.001 * result.components)


def negated(result, n_components):
    return replace(result, components=-result.components)


def ascending(result, n_components):
    return replace(result, components=result.components.flip(0), singular_values=result.singular_values.flip(0))


def mispaired(result, n_components):
    return replace(result, components=result.components.flip(0))


def never_content(result, n_components):
    return replace(result, converged=False)


def by_rank(result, n_components):
    return mispaired(result, n_components) if n_components == 3 else result


def overconfident(operator, n_components, generator):
    result = SubspaceIteration(tol=0, max_sweeps=2)(operator, n_components, generator)
    return replace(result, error_estimate=0.0, converged=True)


def too_early(operator, n_components, generator):
    result = SubspaceIteration(tol=0, max_sweeps=1)(operator, n_components, generator)
    return replace(result, converged=True)


def irreproducible(operator, n_components, generator):
    own = torch.Generator()
    own.seed()
    return SubspaceIteration(tol=1e-9)(operator, n_components, own)


def global_draws(operator, n_components, generator):
    torch.rand(())
    return Exact()(operator, n_components, generator)


def refuses(operator, n_components, generator):
    raise NotImplementedError("wide matrices")


BROKEN_SOLVERS = {
    "too many components": (altered(one_too_many), r"`components` must be of shape \(K, P\)"),
    "singular values in float32": (altered(float32_values), r"`singular_values` must be .* in float64"),
    "not orthonormal": (altered(stretched), "must be orthonormal on a decaying matrix"),
    "wrong sign": (altered(negated), "largest modulus of each component must be positive .* Got 5 of 5"),
    "unsorted": (altered(ascending), "must descend"),
    "values of other components": (altered(mispaired), "must be the lengths of V times the components"),
    "inaccurate": (too_early, "must be those of the dense SVD on a .* Got an error of"),
    "never converged": (altered(never_content), "must converge on a decaying matrix"),
    "irreproducible": (irreproducible, "bitwise equal results with equal generators"),
    "no nesting": (altered(by_rank), "components of rank 3 must be the first of rank 5"),
    "global generator": (global_draws, "leave torch's global random state alone"),
    "refuses": (refuses, r"serve a matrix of shape \(60, 40\) .* raised NotImplementedError: wide"),
}


@pytest.mark.parametrize("broken", BROKEN_SOLVERS)
def test_check_solver_fails_on(broken):
    solver, message = BROKEN_SOLVERS[broken]
    with pytest.raises(AssertionError, match=message):
        check_solver(solver)


def test_check_solver_fails_on_an_estimate_below_the_energy_lost():
    with pytest.raises(AssertionError, match="must not be below the share of energy lost .* Got 0.0e"):
        check_solver(overconfident, rtol=1.0)
