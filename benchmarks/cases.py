"""Models with their rows: ``CASES[name](n_examples)``.

Real weights and data come from the folder SKNFK_DATA, by default ``../shared`` beside the project; "tiny" and
"tiny_tokens" need neither and serve smoke runs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .networks import wide_resnet
from .trained import CharacterTransformer, character_windows, trained_mlp, trained_transformer

ROOT = Path(__file__).resolve().parent.parent
DATA_ROOT = Path(os.environ.get("SKNFK_DATA", ROOT.parent / "shared")).resolve()


@dataclass(frozen=True)
class Case:
    """A trained model in eval mode, the rows that it reads, and what its output means."""

    name: str
    model: nn.Module
    X: np.ndarray  # (N, ...), float32, or int64 tokens
    density: str  # as NFKTransformer takes it

    @property
    def n_examples(self) -> int:
        return len(self.X)

    @property
    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.model.parameters())

    def head(self, n_examples: int) -> Case:
        return replace(self, X=self.X[:n_examples])


def replace_rows(case: Case, X: np.ndarray) -> Case:
    return replace(case, X=X)


class LogDensity(nn.Module):
    """x -> log p(x), (B,): the same function as the library's density, written again for the competitors."""

    def __init__(self, model: nn.Module, density: str) -> None:
        super().__init__()
        self.model = model
        self.density = density

    def forward(self, x: Tensor) -> Tensor:
        output = self.model(x)
        if self.density == "classifier":
            return torch.logsumexp(output, dim=1)
        return output.reshape(len(x))


class AnyPrecisionPixelCNN(nn.Module):
    """The zoo's PixelCNN, but for its cast of the input to float32: the reference runs in float64."""

    def __init__(self, pixelcnn: nn.Module) -> None:
        super().__init__()
        self.net = pixelcnn

    def forward(self, x: Tensor) -> Tensor:
        scaled = x / 127.5 - 1
        v, h = self.net.conv_vstack(scaled), self.net.conv_hstack(scaled)
        for layer in self.net.conv_layers:
            v, h = layer(v, h)
        logits = self.net.conv_out(F.elu(h))
        return -F.cross_entropy(logits, x[:, 0].long(), reduction="none").sum((1, 2))


def has_zoo() -> bool:
    return (DATA_ROOT / "zoo").is_dir()


def zoo(name: str) -> ModuleType:
    """Import zoo.datasets or zoo.models from the folder of real models and data."""
    if not has_zoo():
        raise FileNotFoundError(
            f"This case needs the folder that holds zoo/ and data/. {DATA_ROOT} has no zoo/; set SKNFK_DATA."
        )
    if str(DATA_ROOT) not in sys.path:
        sys.path.insert(0, str(DATA_ROOT))
    return importlib.import_module(f"zoo.{name}")


def mnist(n_examples: int) -> np.ndarray:
    """Grey values (N, 28, 28), uint8: the training images and, beyond 60,000, the test images."""
    load = zoo("datasets").mnist
    images = load("train")[0]
    if n_examples > len(images):
        images = np.concatenate([images, load("test")[0]])
    return enough(images, n_examples)


def enough(rows: np.ndarray, n_examples: int) -> np.ndarray:
    if n_examples > len(rows):
        raise ValueError(f"There are {len(rows)} rows. Got n_examples={n_examples}; rows are not repeated.")
    return rows[:n_examples].copy()


def lenet5(n_examples: int) -> Case:
    grey = torch.from_numpy(mnist(n_examples)).float()[:, None] / 255  # (N, 1, 28, 28)
    X = F.interpolate(grey, size=(32, 32), mode="bilinear", align_corners=False).numpy()
    return Case("lenet5", zoo("models").mnist_lenet5(), X, "classifier")


def resnet20(n_examples: int) -> Case:
    models = zoo("models")
    images = zoo("datasets").cifar10("train", batches=range(min(50, -(-n_examples // 1000))))[0]
    scaled = enough(images, n_examples).astype(np.float32) / 255
    normal = (scaled - np.float32(models.ResNet.MEAN)) / np.float32(models.ResNet.STD)
    X = np.ascontiguousarray(normal.transpose(0, 3, 1, 2))  # (N, 3, 32, 32)
    return Case("resnet20", models.cifar10_resnet(20), X, "classifier")


def wrn40_2(n_examples: int) -> Case:
    """The architecture alone: random weights."""
    images = zoo("datasets").cifar10("train", batches=range(min(50, -(-n_examples // 1000))))[0]
    X = np.ascontiguousarray(enough(images, n_examples).transpose(0, 3, 1, 2), np.float32) / 127.5 - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = wide_resnet(40, 2).eval()
    return Case("wrn40_2", model, X, "classifier")


def dcgan(n_examples: int) -> Case:
    X = mnist(n_examples)[:, None].astype(np.float32) / 127.5 - 1  # (N, 1, 28, 28) in [-1, 1]
    return Case("dcgan", zoo("models").mnist_dcgan_discriminator(), X, "output")


def pixelcnn(n_examples: int) -> Case:
    X = mnist(n_examples)[:, None].astype(np.float32)  # grey values as they are
    return Case("pixelcnn", AnyPrecisionPixelCNN(zoo("models").mnist_pixelcnn()), X, "log_prob")


def mlp(n_examples: int) -> Case:
    X = mnist(n_examples).reshape(n_examples, 784).astype(np.float32) / 255
    return Case("mlp", trained_mlp(zoo("datasets").mnist), X, "classifier")


def transformer(n_examples: int) -> Case:
    text = zoo("datasets").tiny_shakespeare()
    return Case("transformer", trained_transformer(text), character_windows(text, n_examples), "classifier")


def tiny(n_examples: int) -> Case:
    """A small convolutional net on noise."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        X = torch.randn(n_examples, 1, 6, 6)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 5)
        )
    return Case("tiny", model.eval(), X.numpy(), "classifier")


def tiny_tokens(n_examples: int) -> Case:
    """The transformer's kind, small and untrained, on random tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        X = torch.randint(0, 7, (n_examples, 8))
        model = CharacterTransformer(n_characters=7, length=8, width=8, n_layers=1, n_heads=2)
    return Case("tiny_tokens", model.eval(), X.numpy(), "classifier")


CASES: dict[str, Callable[[int], Case]] = {
    "lenet5": lenet5,
    "resnet20": resnet20,
    "wrn40_2": wrn40_2,
    "dcgan": dcgan,
    "pixelcnn": pixelcnn,
    "mlp": mlp,
    "transformer": transformer,
    "tiny": tiny,
    "tiny_tokens": tiny_tokens,
}

# What the tables show: (case, N, K). ResNet-20 at K = 32 is for curvlinops alone.
SIZES: tuple[tuple[str, int, int], ...] = (
    ("lenet5", 10_000, 32),
    ("lenet5", 10_000, 128),
    ("resnet20", 2_000, 20),
    ("resnet20", 2_000, 32),
    ("resnet20", 2_000, 128),
    ("resnet20", 10_000, 20),
    ("resnet20", 10_000, 128),
    ("dcgan", 5_000, 128),
    ("pixelcnn", 500, 64),
    ("mlp", 10_000, 128),
    ("transformer", 2_000, 64),
)
