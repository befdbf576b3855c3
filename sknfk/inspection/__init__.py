"""Displays and measures: what a fitted embedding holds, and how much of it a probe needs."""

from ._draws import draw_labels
from ._effective_rank import effective_rank, layer_spectra, stable_rank, variance_share
from ._images import ComponentExamplesDisplay, NeighborsDisplay
from ._influence import logistic_influence, ridge_influence
from ._label_curve import LabelCurveDisplay
from ._rank_curve import RankCurveDisplay
from ._scaling import ScalingDisplay
from ._spectrum import SpectrumDisplay

__all__ = [
    "ComponentExamplesDisplay",
    "LabelCurveDisplay",
    "NeighborsDisplay",
    "RankCurveDisplay",
    "ScalingDisplay",
    "SpectrumDisplay",
    "draw_labels",
    "effective_rank",
    "layer_spectra",
    "logistic_influence",
    "ridge_influence",
    "stable_rank",
    "variance_share",
]
