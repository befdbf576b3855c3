"""The two models that the benchmarks train themselves, seeded, and kept in an ignored folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CACHE = Path(__file__).resolve().parent / ".cache"

# Raise it when a model or its training changes: stored weights of another version are not read.
VERSION = 1

LENGTH = 64  # tokens that the transformer sees


class CharacterTransformer(nn.Module):
    """Tokens (B, length) -> logits of the character that follows the last one, (B, n_characters)."""

    def __init__(
        self, n_characters: int = 65, length: int = LENGTH, width: int = 128, n_layers: int = 4, n_heads: int = 4
    ):
        super().__init__()
        self.token = nn.Embedding(n_characters, width)
        self.position = nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, n_heads, 4 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, n_layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, n_characters)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length), persistent=False)

    def encode(self, x: Tensor) -> Tensor:
        positions = torch.arange(x.shape[1], device=x.device).expand_as(x)
        # Causal, so that training has a target at every position.
        return self.encoder(self.token(x) + self.position(positions), mask=self.mask, is_causal=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encode(x)[:, -1])


def trained_mlp(mnist: Callable[[str], tuple[np.ndarray, np.ndarray]]) -> nn.Module:
    """MLP 784-256-256-10 on MNIST in [0, 1], 269,322 parameters: above 97 % of the test images."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))

    def train(model: nn.Module) -> dict[str, float]:
        X, y = as_tensors(*mnist("train"))
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(4):
            for rows in torch.randperm(len(X)).split(128):
                step(optimiser, F.cross_entropy(model(X[rows]), y[rows]))
        X_test, y_test = as_tensors(*mnist("test"))
        with torch.no_grad():
            return {"test_accuracy": float((model(X_test).argmax(1) == y_test).double().mean())}

    return stored("mlp", build, train)


def trained_transformer(text: str) -> nn.Module:
    """Four layers of width 128 on 64 characters of tiny Shakespeare, 818,241 parameters; about a minute of Adam."""
    tokens = torch.from_numpy(encode(text))
    n_train = int(0.9 * len(tokens))

    def train(model: nn.Module) -> dict[str, float]:
        n_steps, size = 600, 32
        optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=n_steps, pct_start=0.1)
        model.train()
        for _ in range(n_steps):
            starts = torch.randint(0, n_train - LENGTH - 1, (size,))
            windows = tokens[starts[:, None] + torch.arange(LENGTH + 1)]  # (B, length + 1)
            logits = model.head(model.encode(windows[:, :-1]))
            step(optimiser, F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()))
            schedule.step()
        model.eval()
        return {"held_out_nats": held_out_nats(model, tokens[n_train:])}

    return stored("transformer", CharacterTransformer, train)


def held_out_nats(model: nn.Module, tokens: Tensor, n_windows: int = 1_000) -> float:
    """Mean cross-entropy of the last position on windows that training did not see."""
    starts = torch.linspace(0, len(tokens) - LENGTH - 1, n_windows).long()
    windows = tokens[starts[:, None] + torch.arange(LENGTH + 1)]
    with torch.no_grad():
        return float(F.cross_entropy(model(windows[:, :-1]), windows[:, -1]))


def character_windows(text: str, n_examples: int) -> np.ndarray:
    """Windows of 64 tokens, evenly spaced over the text, (N, 64) in int64."""
    tokens = encode(text)
    starts = np.linspace(0, len(tokens) - LENGTH, n_examples).astype(np.int64)
    return tokens[starts[:, None] + np.arange(LENGTH)]


def encode(text: str) -> np.ndarray:
    """Characters as their rank among the text's own, 65 of them in tiny Shakespeare."""
    codes = np.frombuffer(text.encode("latin-1"), dtype=np.uint8)
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)


def as_tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) / 255), torch.from_numpy(labels.copy())


def step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def stored(name: str, build: Callable[[], nn.Module], train: Callable[[nn.Module], dict[str, float]]) -> nn.Module:
    """Return the model with the weights of an earlier training, or train it now."""
    path = CACHE / f"weights-{name}-v{VERSION}.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
        if path.exists():
            model.load_state_dict(torch.load(path, weights_only=True)["weights"])
        else:
            reached = train(model)
            CACHE.mkdir(exist_ok=True)
            torch.save({"weights": model.state_dict(), "reached": reached}, path)
    return model.eval()


def quality(name: str) -> dict[str, float] | None:
    """Return what a model reached when it was trained, if it was trained here."""
    path = CACHE / f"weights-{name}-v{VERSION}.pt"
    return torch.load(path, weights_only=True)["reached"] if path.exists() else None
