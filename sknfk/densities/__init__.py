"""What a model says about the density of its inputs."""

from ._base import CallableDensity, Density
from ._classifier import Classifier, MultiLabel
from ._discriminator import Discriminator
from ._embedding import Embedding
from ._forward import main_output
from ._language import LanguageModel
from ._log_prob import LogProb
from ._outputs import Logit, Output
from ._samplers import Autoregressive, Langevin, Sampled, Sampler
from ._select import DENSITIES, select_density
from ._variational import Variational

__all__ = [
    "DENSITIES",
    "Autoregressive",
    "CallableDensity",
    "Classifier",
    "Density",
    "Discriminator",
    "Embedding",
    "Langevin",
    "LanguageModel",
    "LogProb",
    "Logit",
    "MultiLabel",
    "Output",
    "Sampled",
    "Sampler",
    "Variational",
    "main_output",
    "select_density",
]
