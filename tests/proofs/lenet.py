"""The real LeNet-5 and the images that it reads."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def lenet5() -> nn.Module:
    """The zoo's trained LeNet-5, 61,706 parameters in float32."""
    from zoo.models import mnist_lenet5

    return mnist_lenet5()


def mnist_images(n_images: int) -> np.ndarray:
    """The first test images, (N, 1, 32, 32): 28 x 28 resized bilinearly, in [0, 1]."""
    return mnist_examples(n_images)[0]


def mnist_examples(n_images: int) -> tuple[np.ndarray, np.ndarray]:
    """The first test images, and their labels."""
    from zoo.datasets import mnist

    images, labels = mnist("test")
    grey = torch.from_numpy(images[:n_images].copy()).float()[:, None] / 255  # (N, 1, 28, 28)
    return F.interpolate(grey, size=(32, 32), mode="bilinear", align_corners=False).numpy(), labels[:n_images]
