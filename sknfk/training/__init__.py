"""Models that the library trains itself, and what joins the training of others."""

from ._autoencoder import GaussianAutoencoder, fit_gaussian_autoencoder
from ._distillation import DISTANCES, UNLABELLED, distil
from ._low_rank import LowRankCallback, LowRankRegularizer
from ._skorch import interruptible, train_net

__all__ = [
    "DISTANCES",
    "UNLABELLED",
    "GaussianAutoencoder",
    "LowRankCallback",
    "LowRankRegularizer",
    "distil",
    "fit_gaussian_autoencoder",
    "interruptible",
    "train_net",
]
