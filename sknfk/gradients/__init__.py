"""Per-example gradients of a log-density: engines and what they return."""

from ._block import DenseBlock, GradientBlock
from ._cost import EngineCosts, engine_costs, forward_flops
from ._engines import ENGINES, Engine, make_engine, select_engine
from ._jvp import JvpEngine
from ._layerwise import LayerwiseEngine
from ._loop import LoopEngine
from ._model import LogDensityModel
from ._parameters import ParameterSelection, ParameterSpace
from ._parts import EmbeddingBlock, JoinedBlock, OuterBlock
from ._probe import check_log_density, nonfinite_gradient
from ._tangent import TangentModel, fold_batch_norms, topmost_layer
from ._vmap import VmapEngine

__all__ = [
    "ENGINES",
    "DenseBlock",
    "EmbeddingBlock",
    "Engine",
    "EngineCosts",
    "GradientBlock",
    "JoinedBlock",
    "JvpEngine",
    "LayerwiseEngine",
    "LogDensityModel",
    "LoopEngine",
    "OuterBlock",
    "ParameterSelection",
    "ParameterSpace",
    "TangentModel",
    "VmapEngine",
    "check_log_density",
    "engine_costs",
    "fold_batch_norms",
    "forward_flops",
    "make_engine",
    "nonfinite_gradient",
    "select_engine",
    "topmost_layer",
]
