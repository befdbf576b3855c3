"""A small GAN of handwritten digits, which some examples of the gallery share. Not an example itself."""

import numpy as np
import torch
from parity import SMALL
from torch import nn
from torch.nn.functional import softplus

N_LATENT = 10
N_STEPS = 50 if SMALL else 2_000


def signed(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as the GAN reads them: flat and in [-1, 1]."""
    return 2 * images.reshape(len(images), -1) - 1


def untrained_gan() -> tuple[nn.Sequential, nn.Sequential]:
    """Return discriminator and generator of rows of 64 pixels in [-1, 1], with their first weights."""
    torch.manual_seed(0)
    D = nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Linear(128, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))
    G = nn.Sequential(
        *(nn.Linear(N_LATENT, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh())
    )
    return D, G


def trained_gan(X: np.ndarray) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the same two, trained in turn by the logistic loss."""
    D, G = untrained_gan()
    adam_D, adam_G = (torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.5, 0.999)) for net in (D, G))
    for _ in range(N_STEPS):
        real, fake = torch.from_numpy(X)[torch.randint(0, len(X), (128,))], G(torch.randn(128, N_LATENT))
        adam_D.zero_grad()
        (softplus(-D(real)) + softplus(D(fake.detach()))).mean().backward()
        adam_D.step()
        adam_G.zero_grad()
        softplus(-D(fake)).mean().backward()
        adam_G.step()
    return D.eval(), G.eval()


def generated(G: nn.Sequential, h: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return G(torch.as_tensor(h, dtype=torch.float32)).numpy()
