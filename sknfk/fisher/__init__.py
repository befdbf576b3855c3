"""Fisher statistics, Fisher vectors and their kernel."""

from ._operator import FisherVectorOperator
from ._statistics import (
    FisherStatistics,
    Moments,
    estimate_moments,
    estimate_statistics,
)
from ._vectors import FisherVectors, gram_matrix

__all__ = [
    "FisherStatistics",
    "FisherVectorOperator",
    "FisherVectors",
    "Moments",
    "estimate_moments",
    "estimate_statistics",
    "gram_matrix",
]
