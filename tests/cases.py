"""Models that the tests share, as factories: each call builds the same one anew."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Sums in another order, batches of another size: a few eps of float64.
FLOAT64_RTOL = 1e-10
# The same in float32, through a network: promise 1 of the design.
FLOAT32_RTOL = 1e-5


def seeded(build, seed: int = 0) -> nn.Module:
    """Build a module on a seed of its own, in float64 and eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build().double().eval()


def mlp(n_inputs: int = 5, n_outputs: int = 3) -> nn.Module:
    return seeded(lambda: nn.Sequential(nn.Linear(n_inputs, 7), nn.Tanh(), nn.Linear(7, n_outputs)))


def convnet(n_outputs: int = 4) -> nn.Module:
    """Rows of shape (1, 8, 8); strides, groups, batch norm in eval mode with real statistics."""

    def build():
        layers = [
            nn.Conv2d(1, 4, 3, 2, 1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3, groups=2),
            nn.Flatten(),
        ]
        net = nn.Sequential(*layers, nn.Linear(16, n_outputs))
        net[1].running_mean.normal_()
        net[1].running_var.uniform_(0.5, 2)
        return net

    return seeded(build)


class Tied(nn.Module):
    """One weight under two names, and one layer called twice."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5, bias=False)
        self.second.weight = self.first.weight
        self.reused = nn.Linear(5, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.reused(torch.tanh(self.second(torch.tanh(self.first(x)))))
        return self.head(torch.tanh(self.reused(torch.tanh(h))))


def tied() -> nn.Module:
    return seeded(Tied)


class Attention(nn.Module):
    """Self-attention over 5 positions, by ``scaled_dot_product_attention``."""

    def __init__(self):
        super().__init__()
        self.embed, self.qkv, self.norm, self.head = (
            nn.Linear(1, 6),
            nn.Linear(6, 18),
            nn.LayerNorm(6),
            nn.Linear(6, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x[:, :, None])
        q, k, v = self.qkv(h).chunk(3, dim=-1)
        return self.head(self.norm(h + F.scaled_dot_product_attention(q, k, v)).mean(1))


def attention() -> nn.Module:
    return seeded(Attention)


class DataDependent(nn.Module):
    """Control flow that depends on the data: vmap refuses it."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = [torch.relu(self.body(r)) if float(r.sum()) > 0 else torch.tanh(self.body(r)) for r in x]
        return self.head(torch.stack(rows))


def data_dependent() -> nn.Module:
    return seeded(DataDependent)


class Recurrent(nn.Module):
    """An LSTM over the 5 features of a row."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x[:, :, None])[0][:, -1])


def recurrent() -> nn.Module:
    return seeded(Recurrent)


class Tokens(nn.Module):
    """Bag of embeddings over integer tokens below 11."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(11, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.embedding(x).mean(1)))


def tokens() -> nn.Module:
    return seeded(Tokens)


class AnyWidth(nn.Module):
    """A pre-trained model that takes rows of any width, as scikit-learn's checks need."""

    def __init__(self, n_outputs: int = 3):
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        mean, spread = flat.mean(1), flat.square().mean(1)
        summary = torch.stack([mean, torch.log1p(spread), flat.amax(1).tanh(), flat[:, 0]], dim=1)
        return self.head(torch.tanh(self.body(summary)))


def any_width() -> nn.Module:
    return seeded(AnyWidth)


def rows(n_rows: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Gaussian rows in float64."""
    return np.random.default_rng(seed).normal(size=(n_rows, *(shape or (5,))))


def drawn_rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(rows(*shape, seed=seed))


# name -> (model, rows of X); every engine is tried on each of them.
MODELS = {
    "mlp": lambda: (mlp(), rows(6)),
    "convnet": lambda: (convnet(), rows(6, 1, 8, 8)),
    "tied": lambda: (tied(), rows(6)),
    "attention": lambda: (attention(), rows(6)),
    "data_dependent": lambda: (data_dependent(), rows(6)),
    "recurrent": lambda: (recurrent(), rows(6)),
    "tokens": lambda: (tokens(), np.random.default_rng(0).integers(0, 11, size=(6, 5))),
}
