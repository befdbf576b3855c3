"""The face that scipy sees of the Fisher vectors."""

from __future__ import annotations

from ..solvers import ScipyFace
from ._vectors import FisherVectors

__all__ = ["FisherVectorOperator"]


class FisherVectorOperator(ScipyFace):
    """The matrix of Fisher vectors as a scipy ``LinearOperator`` of shape (N, P).

    Every product is one pass over the rows, also a block's; scipy's own default
    would make one pass for each column. ``operator.torch`` is the torch operator.

    Parameters
    ----------
    vectors : FisherVectors
        What it shows.
    """

    torch: FisherVectors

    def __init__(self, vectors: FisherVectors) -> None:
        super().__init__(vectors)
