"""Neural Fisher Kernel features of trained torch models, as scikit-learn transformers."""

from .estimators import (
    GradientFeatureClassifier,
    NFKDistiller,
    NFKernel,
    NFKTransformer,
    TakeComponents,
    semi_supervised_split,
)
from .training import LowRankCallback, LowRankRegularizer

__version__ = "0.1.0.dev0"

__all__ = [
    "GradientFeatureClassifier",
    "LowRankCallback",
    "LowRankRegularizer",
    "NFKDistiller",
    "NFKTransformer",
    "NFKernel",
    "TakeComponents",
    "__version__",
    "semi_supervised_split",
]
