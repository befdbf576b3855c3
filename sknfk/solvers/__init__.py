"""Truncated SVD of a matrix that is seen only through its products.

Read `_subspace.py` first. Solvers know no model: they see an `Operator`, and yield
or return plain results.
"""

from __future__ import annotations

from ._exact import Exact
from ._krylov import BlockKrylov, KrylovState
from ._operator import MatrixOperator, Operator
from ._orthonormal import random_block, spread_over
from ._paper import Paper
from ._result import SVDResult, energy_error_estimate
from ._scipy import ScipyFace, ScipySVDS
from ._select import (
    SOLVERS,
    Solver,
    make_solver,
    most_sweeps,
    select_solver,
    select_spread,
    solver_bytes,
    starts_from_a_block,
)
from ._share import FixedRank, RankRule, Share, project_rank, warn_share_missed
from ._signs import SignedSums, SparseSigns
from ._sketch import Sketch, SketchRefined, sketch_rows, sketch_width
from ._state import pack_state, unpack_state
from ._subspace import SubspaceIteration, SubspaceState
from ._truncated_svd import truncated_svd

__all__ = [
    "SOLVERS",
    "BlockKrylov",
    "Exact",
    "FixedRank",
    "KrylovState",
    "MatrixOperator",
    "Operator",
    "Paper",
    "RankRule",
    "SVDResult",
    "ScipyFace",
    "ScipySVDS",
    "Share",
    "SignedSums",
    "Sketch",
    "SketchRefined",
    "Solver",
    "SparseSigns",
    "SubspaceIteration",
    "SubspaceState",
    "energy_error_estimate",
    "make_solver",
    "most_sweeps",
    "pack_state",
    "project_rank",
    "random_block",
    "select_solver",
    "select_spread",
    "sketch_rows",
    "sketch_width",
    "solver_bytes",
    "spread_over",
    "starts_from_a_block",
    "truncated_svd",
    "unpack_state",
    "warn_share_missed",
]
