"""Fisher statistics, Fisher vectors and their kernel."""

from ._operator import FisherVectorOperator
from ._start import RangeSample
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
    "RangeSample",
    "estimate_moments",
    "estimate_statistics",
    "gram_matrix",
]
