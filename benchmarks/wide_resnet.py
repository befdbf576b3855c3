"""Wide residual networks (Zagoruyko and Komodakis 2016) for images of 32 x 32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Moved(nn.Module):
    """In training, images shifted by up to four pixels and flipped at random; else images as they are."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        number, place = torch.arange(len(x), device=x.device), torch.arange(32, device=x.device)
        down, right = torch.randint(0, 9, (2, len(x), 1), device=x.device) + place  # (B, 32) each
        right = torch.where(torch.rand(len(x), 1, device=x.device) < 0.5, right.flip(1), right)
        padded = F.pad(x, (4, 4, 4, 4)).permute(0, 2, 3, 1)
        return padded[number[:, None, None], down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)


class Block(nn.Module):
    """Normalise, activate and convolve twice, beside a shortcut."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(c_in), nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(c_out), nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.shortcut = None if c_in == c_out else nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(x))
        way_around = x if self.shortcut is None else self.shortcut(h)
        return way_around + self.conv2(F.relu(self.bn2(self.conv1(h))))


class WideResNet(nn.Module):
    """WRN-depth-width: images (B, 3, 32, 32) -> logits (B, 10)."""

    def __init__(self, depth: int, width: int, n_classes: int = 10) -> None:
        super().__init__()
        n_blocks, channels = (depth - 4) // 6, (16, 16 * width, 32 * width, 64 * width)
        layers: list[nn.Module] = [Moved(), nn.Conv2d(3, 16, 3, 1, 1, bias=False)]
        for c_in, c_out, stride in zip(channels[:-1], channels[1:], (1, 2, 2), strict=True):
            layers += [Block(c_in, c_out, stride), *(Block(c_out, c_out, 1) for _ in range(n_blocks - 1))]
        layers += [nn.BatchNorm2d(channels[-1]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(channels[-1], n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))
