"""What the examples of the gallery share: handwritten digits, and a small net that knows odd from even.

Not an example itself. With SKNFK_SMALL=1 in the environment, as in the tests, data and training are cut short: do the
examples run?
"""

import os
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SMALL = os.environ.get("SKNFK_SMALL") == "1"
N_TRAIN, N_TEST, N_EPOCHS = (240, 100, 2) if SMALL else (1200, 597, 30)


@dataclass(frozen=True)
class Digits:
    """Images (N, 1, 8, 8) in [0, 1] and the digits that they show."""

    X_train: np.ndarray
    X_test: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray


def load_images() -> Digits:
    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    return Digits(
        *train_test_split(images, digits, train_size=N_TRAIN, test_size=N_TEST, stratify=digits, random_state=0)
    )


def untrained_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2)),
    )


def train(model: nn.Module, X: np.ndarray, loss_of, n_epochs: int = N_EPOCHS, lr: float = 1e-3) -> nn.Module:
    """Minimise the mean of ``loss_of(model, rows)``, rows being indices, by Adam in batches of 32."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(n_epochs):
        for rows in torch.randperm(len(X)).split(32):
            optimizer.zero_grad()
            loss_of(model, rows).backward()
            optimizer.step()
    return model.eval()


def trained_net(digits: Digits) -> nn.Module:
    """A net that tells odd digits from even ones; which digit it is, nobody told it."""
    X, is_odd = torch.from_numpy(digits.X_train), torch.from_numpy(digits.y_train % 2)
    return train(untrained_net(), X, lambda net, rows: nn.functional.cross_entropy(net(X[rows]), is_odd[rows]))


def activations(layers: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return layers(torch.from_numpy(images)).numpy()
