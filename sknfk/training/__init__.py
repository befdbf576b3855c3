"""Models that the library trains itself."""

from ._autoencoder import GaussianAutoencoder, fit_gaussian_autoencoder
from ._skorch import train_net

__all__ = ["GaussianAutoencoder", "fit_gaussian_autoencoder", "train_net"]
