"""Images and labels as tensors, and the scalings that the trained models read."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .cases import zoo

N_SELECTION = 10_000  # of CIFAR-10's training images: the last ones
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10's training pixels


def mnist_tensors(split: str) -> tuple[Tensor, Tensor]:
    images, labels = zoo("datasets").mnist(split)
    return torch.from_numpy(images.copy())[:, None], torch.from_numpy(labels.copy())


def cifar10_tensors(split: str) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32), uint8: 50,000 for training, the first 1,017 of the test images."""
    images, labels = zoo("datasets").cifar10(split)
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))), torch.from_numpy(labels.copy())


def unit(x: Tensor) -> Tensor:
    """Grey values in [0, 1]."""
    return x.float() / 255


def signed(x: Tensor) -> Tensor:
    """Grey values in [-1, 1]."""
    return x.float() / 127.5 - 1


def normal(x: Tensor) -> Tensor:
    """Colours with CIFAR-10's mean and deviation taken off, from uint8 or from [0, 1]."""
    x = unit(x) if x.dtype == torch.uint8 else x
    mean, std = (torch.tensor(values, device=x.device)[:, None, None] for values in (MEAN, STD))
    return (x - mean) / std
