"""Displays: what a fitted embedding holds, and how much of it a probe needs."""

from ._draws import draw_labels
from ._label_curve import LabelCurveDisplay
from ._rank_curve import RankCurveDisplay
from ._spectrum import SpectrumDisplay

__all__ = ["LabelCurveDisplay", "RankCurveDisplay", "SpectrumDisplay", "draw_labels"]
