"""Displays: what a fitted embedding holds, and how much of it a probe needs."""

from ._draws import draw_labels
from ._images import ComponentExamplesDisplay, NeighborsDisplay
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
]
