"""Networks of the paper's experiments that the benchmarks train themselves."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

LATENT = 128  # of the spectral-norm GAN and of the autoencoder
SMALL_LATENT = 64  # of the small DCGAN


def binary_mlp() -> nn.Sequential:
    """Images (B, 1, 28, 28) -> one logit (B, 1); 267,009 parameters."""
    layers = [nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1)]
    return nn.Sequential(*layers)


def binary_lenet5() -> nn.Sequential:
    """Images (B, 1, 28, 28) -> one logit (B, 1); 60,941 parameters."""
    body = [nn.ZeroPad2d(2), nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU()]
    head = [nn.MaxPool2d(2), nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten(), nn.Linear(120, 84), nn.ReLU()]
    return nn.Sequential(*body, *head, nn.Linear(84, 1))


def small_discriminator() -> nn.Sequential:
    """Images (B, 1, 28, 28) in [-1, 1] -> logit (B, 1); 16,921 parameters."""
    layers: list[nn.Module] = []
    for c_in, c_out in ((1, 10), (10, 20), (20, 41)):
        layers += [nn.Conv2d(c_in, c_out, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(41 * 9, 1))


def small_generator() -> nn.Sequential:
    """Latent variables (B, 64) -> images (B, 1, 28, 28) in [-1, 1]."""
    layers = [nn.Linear(SMALL_LATENT, 64 * 49), nn.Unflatten(1, (64, 7, 7)), nn.BatchNorm2d(64), nn.ReLU()]
    layers += [nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Tanh())


class SpectralBlock(nn.Module):
    """A residual block whose convolutions have spectral norm one; ``down`` halves the image, ``first`` reads pixels."""

    def __init__(self, c_in: int, c_out: int, down: bool, first: bool = False) -> None:
        super().__init__()
        self.conv1 = spectral_norm(nn.Conv2d(c_in, c_out, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(c_out, c_out, 3, padding=1))
        self.shortcut = spectral_norm(nn.Conv2d(c_in, c_out, 1)) if down or c_in != c_out else nn.Identity()
        self.pool = nn.AvgPool2d(2) if down else nn.Identity()
        self.enter = nn.Identity() if first else nn.ReLU()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv2(self.relu(self.conv1(self.enter(x)))) + self.shortcut(x))


class UpBlock(nn.Module):
    """A residual block of the generator, twice the image's size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.shortcut = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2.0))
        return self.conv2(F.relu(self.norm2(h))) + self.shortcut(F.interpolate(x, scale_factor=2.0))


def sn_discriminator(width: int = 128) -> nn.Sequential:
    """Images (B, 3, 32, 32) in [-1, 1] -> logit (B, 1): four residual blocks with spectral norm."""
    blocks = [SpectralBlock(3, width, True, first=True), SpectralBlock(width, width, True)]
    blocks += [SpectralBlock(width, width, False), SpectralBlock(width, width, False)]
    head = [nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), spectral_norm(nn.Linear(width, 1))]
    return nn.Sequential(*blocks, *head)


def sn_generator(width: int = 256) -> nn.Sequential:
    """Latent variables (B, 128) -> images (B, 3, 32, 32) in [-1, 1]."""
    start = [nn.Linear(LATENT, width * 16), nn.Unflatten(1, (width, 4, 4))]
    end = [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1), nn.Tanh()]
    return nn.Sequential(*start, *(UpBlock(width) for _ in range(3)), *end)


def folded(model: nn.Module) -> nn.Module:
    """Put the divisions by spectral norms into the weights: the same function, in plain layers. The model changes."""
    for layer in list(model.modules()):
        if is_parametrized(layer, "weight"):
            remove_parametrizations(layer, "weight")
    return model


class ConvVAE(nn.Module):
    """A convolutional autoencoder of images (B, 3, 32, 32) in [0, 1] with a Gaussian likelihood.

    One variance for all pixels is learnt; the decoder's output is mean and log-variance.
    """

    def __init__(self) -> None:
        super().__init__()
        down: list[nn.Module] = []
        up: list[nn.Module] = [nn.Linear(LATENT, 4096), nn.Unflatten(1, (256, 4, 4))]
        for c_in, c_out in ((3, 64), (64, 128), (128, 256)):
            down += [nn.Conv2d(c_in, c_out, 4, 2, 1), nn.SiLU()]
        for c_in, c_out in ((256, 128), (128, 64), (64, 3)):
            up += [nn.SiLU(), nn.ConvTranspose2d(c_in, c_out, 4, 2, 1)]
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(4096, 2 * LATENT))
        self.decoder = nn.Sequential(*up, nn.Sigmoid())
        # Of the decoder, so that parameters="decoder" has it.
        self.decoder.register_parameter("log_variance", nn.Parameter(self.encoder[0].weight.new_full((), -3.0)))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(x).chunk(2, 1)
        return mean, log_variance

    def decode(self, h: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.decoder(h)
        return mean, self.decoder.log_variance.expand_as(mean)


class WideBlock(nn.Module):
    """Batch norm, ReLU and convolution, twice, beside a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(c_in), nn.BatchNorm2d(c_out)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(x))
        skip = x if isinstance(self.shortcut, nn.Identity) else self.shortcut(h)
        return self.conv2(F.relu(self.norm2(self.conv1(h)))) + skip


def wide_resnet(depth: int, width: int) -> nn.Sequential:
    """WRN-depth-width: images (B, 3, 32, 32), normalised -> logits (B, 10)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False)]
    c_in = 16
    for c_out, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
        for number in range((depth - 4) // 6):
            layers.append(WideBlock(c_in, c_out, 1 if number else stride))
            c_in = c_out
    return nn.Sequential(*layers, nn.BatchNorm2d(c_in), nn.ReLU(), nn.AvgPool2d(8), nn.Flatten(), nn.Linear(c_in, 10))
