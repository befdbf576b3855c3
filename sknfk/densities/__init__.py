"""What a model says about the density of its inputs."""

from ._base import CallableDensity, Density
from ._classifier import Classifier
from ._outputs import Logit, LogProb, Output
from ._select import select_density

__all__ = ["CallableDensity", "Classifier", "Density", "LogProb", "Logit", "Output", "select_density"]
