"""Checks that a density, an engine, an operator or a solver of your own keeps its promises.

Each check returns None or raises an AssertionError that says what must hold and what
was got. They work on small inputs and copies, and need no test framework.
"""

from ._density import check_density
from ._engine import check_engine
from ._operator import check_operator
from ._solver import check_solver

__all__ = ["check_density", "check_engine", "check_operator", "check_solver"]
