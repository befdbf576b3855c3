"""Solvers that look at V S in place of V: for more parameters than blocks have room for."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..distributed import ALONE, Peers
from ._exact import Exact
from ._krylov import BlockKrylov
from ._operator import MatrixOperator, Operator
from ._orthonormal import complete, descending_eigh, flip_signs, inner, orthonormalise
from ._result import SVDResult
from ._share import FixedRank, RankRule, as_rank_rule
from ._signs import SparseSigns

__all__ = ["Sketch", "SketchRefined", "sketch_rows", "sketch_width"]

# Kernels of two sketches of this width agree with a CKA above 0.99 on a trained network
# (benchmarks/results/sketch.json).
LEAST_WIDTH = 8192
WIDTHS_PER_COMPONENT = 16
# V S is in memory. What is lost to this tolerance is far below the sketch's own error.
IN_MEMORY = BlockKrylov(tol=1e-6, max_sweeps=30)
# Rows up to which its Gram matrix costs less than the sweeps.
GRAM_ROWS = 512


def sketch_width(width: int | Literal["auto"], n_components: int, n_parameters: int) -> int:
    """Return the columns of a sketch, from the components to the parameters.

    Parameters
    ----------
    width : int or "auto"
        "auto" is max(8192, 16 K).
    n_components : int
        K, or the most components that a share of the trace may take.
    n_parameters : int
        P.

    Returns
    -------
    int
        w.

    Raises
    ------
    ValueError
        If it is less than the components.
    """
    wanted = max(LEAST_WIDTH, WIDTHS_PER_COMPONENT * n_components) if width == "auto" else width
    if wanted < n_components:
        raise ValueError(
            f"`sketch_width` must be at least the number of components, {n_components}. Got {wanted}; pass 'auto', "
            f"which is max({LEAST_WIDTH}, {WIDTHS_PER_COMPONENT} n_components)."
        )
    return min(wanted, n_parameters)


def sketch_rows(n_rows: int, n_held: int) -> int:
    """Return how many rows of a sketch a process must have room for.

    Parameters
    ----------
    n_rows : int
        Of all processes.
    n_held : int
        Of the process that has most.

    Returns
    -------
    int
        All where they are few, since those are joined; else its own, and so many that no
        Gram matrix is counted on.
    """
    return n_rows if n_rows <= GRAM_ROWS else max(n_held, GRAM_ROWS + 1)


@runtime_checkable
class Sketchable(Protocol):
    """An operator that can be sketched."""

    def sketch(self, signs: SparseSigns) -> Tensor:
        """Return V S, (N, w), or the rows of this process where ``peers`` hold the others. Cost: one visit."""
        ...


@dataclass(frozen=True)
class Sketch:
    """Take the leading singular vectors of V S, S a matrix of sparse random signs.

    ``(V S) (V S)^T`` is V V^T in expectation: singular values and embeddings of the
    examples are those of V but for errors of some sqrt(2 / w). The right singular
    vectors live in the space of the sketch, (K, w); with ``S R`` they map a new row.
    There is no error estimate, and no tolerance that is met.

    Cost: one visit, two operations for each entry; N w numbers, no (P, L) block.

    Parameters
    ----------
    width : int or "auto"
        Columns w of S; "auto" is max(8192, 16 K). From P on, nothing is lost.
    """

    width: int | Literal["auto"] = "auto"

    def __call__(self, operator: Operator, n_components: int | RankRule, generator: torch.Generator) -> SVDResult:
        """Sketch V and decompose the sketch."""
        rule = as_rank_rule(n_components)
        signs = _signs(operator, self.width, rule, generator)
        found = _decomposed(_sketched(operator, signs), _peers_of(operator), rule, generator)
        return replace(
            found,
            error_estimate=math.nan,
            n_sweeps=1,
            solver="sketch",
            converged=True,
            estimates=(),
            sketch=None if signs.is_identity else signs,
        )


@dataclass(frozen=True)
class SketchRefined:
    """Start from a sketch's left vectors, and multiply by V^T and V once more each.

    With U the leading left singular vectors of V S, ``Q = orth(V^T U)`` and a
    Rayleigh-Ritz finish on V Q: one step of subspace iteration from the examples'
    side, with errors of second order in the sketch's. Components are true ones, (K, P).

    Cost: three visits, none of which multiplies twice; N w and some 4 P (K + n_oversamples)
    numbers, where "krylov" keeps a block for each sweep.

    Parameters
    ----------
    width : int or "auto"
        As for `Sketch`.
    n_oversamples : int
        Columns beyond the components.
    """

    width: int | Literal["auto"] = "auto"
    n_oversamples: int = 10

    def __call__(self, operator: Operator, n_components: int | RankRule, generator: torch.Generator) -> SVDResult:
        """Sketch V, find a basis from the left vectors, and take its Ritz pairs."""
        rule = as_rank_rule(n_components)
        Q = orthonormalise(operator.rmatmat(self._left_vectors(operator, rule, generator)))[0]  # (P, at most U)
        Y = operator.matmat(Q)  # (N, at most U)
        gram = inner(Y, Y)
        _peers_of(operator).total([gram])
        theta, S = descending_eigh(gram)
        K = rule.rank(theta)
        components = complete(Q @ S[:, :K].to(Q.dtype), K, generator)  # (P, K)
        found = len(theta[:K])
        return SVDResult(
            components=flip_signs(components.T).contiguous(),
            singular_values=torch.nn.functional.pad(theta[:K].sqrt(), (0, K - found)),
            error_estimate=math.nan,
            n_sweeps=3,
            solver="sketch-refined",
            converged=True,
        )

    def _left_vectors(self, operator: Operator, rule: RankRule, generator: torch.Generator) -> Tensor:
        """Return the leading left singular vectors of V S, (N, U), or this process's rows; nothing keeps the sketch."""
        most = min(rule.max_components + self.n_oversamples, *operator.shape)
        signs = _signs(operator, self.width, rule, generator)
        Z = _sketched(operator, signs)
        found = _decomposed(Z, _peers_of(operator), FixedRank(min(most, signs.width)), generator)
        n_columns = min(rule.rank(found.singular_values.square()) + self.n_oversamples, most)
        scale = found.singular_values[:n_columns].to(Z.dtype)
        inverse = torch.where(scale > torch.finfo(Z.dtype).eps * scale[0], 1 / scale, 0.0)
        return (Z @ found.components[:n_columns].T) * inverse


def _decomposed(Z: Tensor, peers: Peers, rule: RankRule, generator: torch.Generator) -> SVDResult:
    """Decompose a sketch, of which each process has its rows; few are joined first."""
    operator = MatrixOperator(Z, peers)
    if operator.shape[0] > GRAM_ROWS:
        return IN_MEMORY(operator, rule, generator)
    return Exact()(MatrixOperator(peers.joined(Z)), rule, generator)


def _peers_of(operator: Operator) -> Peers:
    """Return the processes that hold the other rows; an operator need not know of any."""
    peers: Peers = getattr(operator, "peers", ALONE)
    return peers


def _signs(operator: Operator, width: int | Literal["auto"], rule: RankRule, generator: torch.Generator) -> SparseSigns:
    seed = int(torch.randint(2**63 - 1, (1,), generator=generator))
    n_parameters = operator.shape[1]
    return SparseSigns(n_parameters, sketch_width(width, rule.max_components, n_parameters), seed)


def _sketched(operator: Operator, signs: SparseSigns) -> Tensor:
    if not isinstance(operator, Sketchable):
        raise TypeError(
            "`operator` must have a method `sketch` for the solvers 'sketch' and 'sketch-refined'. Got "
            f"{type(operator).__name__}; give it one, or choose solver='krylov'."
        )
    return operator.sketch(signs)
