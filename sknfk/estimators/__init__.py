"""The scikit-learn objects."""

from ._distiller import NFKDistiller
from ._gp import FisherGPKernel
from ._gradient_features import GradientFeatureClassifier
from ._kernel import NFKernel
from ._ranks import TakeComponents
from ._splits import semi_supervised_split
from ._transformer import NFKTransformer

__all__ = [
    "FisherGPKernel",
    "GradientFeatureClassifier",
    "NFKDistiller",
    "NFKTransformer",
    "NFKernel",
    "TakeComponents",
    "semi_supervised_split",
]
