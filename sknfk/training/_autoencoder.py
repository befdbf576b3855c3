"""The density that ``model=None`` stands for: a small Gaussian autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._torch import seeded_torch

__all__ = ["GaussianAutoencoder", "fit_gaussian_autoencoder"]

N_STEPS = 30
MAX_ROWS = 4096


class GaussianAutoencoder(nn.Module):
    """log p(x) = -1/2 ||s - decode(encode(s))||^2 for standardised rows s.

    A convenience that lets ``NFKTransformer()`` run without a model; not a good
    feature extractor.

    Parameters
    ----------
    n_features : int
        Entries of a flattened row.
    n_hidden : int, default=16
        Width of the hidden layer.
    """

    def __init__(self, n_features: int, n_hidden: int = 16) -> None:
        super().__init__()
        self.encoder = nn.Linear(n_features, n_hidden)
        self.decoder = nn.Linear(n_hidden, n_features)
        self.mean: Tensor
        self.inverse_std: Tensor
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("inverse_std", torch.ones(n_features))

    def forward(self, x: Tensor) -> Tensor:
        """Return log p(x), (B,), up to a constant."""
        standardised = (x.flatten(1) - self.mean) * self.inverse_std
        decoded = self.decoder(torch.tanh(self.encoder(standardised)))
        return -0.5 * (standardised - decoded).square().sum(1)


def fit_gaussian_autoencoder(X: Tensor, seed: int) -> GaussianAutoencoder:
    """Train a Gaussian autoencoder by 30 full-batch Adam steps.

    Cost: 30 passes over the first 4,096 rows.

    Parameters
    ----------
    X : Tensor of shape (N, ...)
        Floating rows; their dtype and device are the module's.
    seed : int
        Seeds the initial weights, the only random numbers.

    Returns
    -------
    GaussianAutoencoder
        In eval mode.
    """
    rows = X[:MAX_ROWS].flatten(1)
    with seeded_torch(seed):
        module = GaussianAutoencoder(rows.shape[1])
    module.to(device=rows.device, dtype=rows.dtype)
    std = rows.std(0, correction=0)
    module.mean.copy_(rows.mean(0))
    # A constant feature carries nothing; dividing by its rounding noise would.
    constant = std <= 1e-6 * rows.abs().amax(0)
    module.inverse_std.copy_(torch.where(constant, 0.0, std.reciprocal()))
    optimiser = torch.optim.Adam(module.parameters(), lr=1e-2)
    for _ in range(N_STEPS):
        optimiser.zero_grad()
        (-module(rows).mean()).backward()
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return module.eval()
