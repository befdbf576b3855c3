"""Fisher statistics, Fisher vectors and their kernel."""

from ._cache import GradientCache, cache_bytes
from ._operator import FisherVectorOperator
from ._spread import SpreadBlocks
from ._start import RangeSample
from ._statistics import (
    FisherStatistics,
    Moments,
    estimate_moments,
    estimate_statistics,
)
from ._vectors import FisherVectors, gram_bytes, gram_matrix
from ._visits import Watch

__all__ = [
    "FisherStatistics",
    "FisherVectorOperator",
    "FisherVectors",
    "GradientCache",
    "Moments",
    "RangeSample",
    "SpreadBlocks",
    "Watch",
    "cache_bytes",
    "estimate_moments",
    "estimate_statistics",
    "gram_bytes",
    "gram_matrix",
]
