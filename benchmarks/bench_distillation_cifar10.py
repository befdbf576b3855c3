"""The paper's distillation (appendix D.2): WRN-40-2 to WRN-16-1 on CIFAR-10, for a GPU.

Teacher and student are trained on 40,000 training images with shifts and flips, SGD with momentum and the paper's
schedule; the embedding, of the images as they are, has 20 components. The other 10,000 training images are the
validation rows. Of the test images only the first 1,017 are at hand: the standard error of an accuracy is about a
point. Rows that an earlier run has written are kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import nn

from sknfk import NFKDistiller, NFKTransformer

from .bench_distillation import Given
from .measuring import significant
from .pairs import images_of
from .trained import CACHE
from .wide_resnet import WideResNet

TAKES = ("done",)
N_VALIDATION, N_COMPONENTS = 10_000, 20
SEEDS = (0, 1, 2)
WAYS = {
    "labels alone": {"alpha": 1.0},
    **{f"NFK, {d}, alpha={a:g}": {"alpha": a, "distance": d} for d in ("l2", "cosine") for a in (0.5, 0.9)},
}


@dataclass(frozen=True)
class Size:
    """Depth and width of both nets, and how long they train."""

    teacher: tuple[int, int] = (40, 2)
    student: tuple[int, int] = (16, 1)
    n_epochs: int = 250
    milestones: tuple[int, ...] = (150, 200)
    batch_size: int = 128


SMOKE = Size((10, 1), (10, 1), 1, (1,), 40)


def net(size: Size, shape: tuple[int, int], device: str) -> NeuralNetClassifier:
    return NeuralNetClassifier(
        WideResNet,
        module__depth=shape[0],
        module__width=shape[1],
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__weight_decay=5e-4,
        lr=0.1,
        max_epochs=size.n_epochs,
        batch_size=size.batch_size,
        callbacks=[("schedule", LRScheduler("MultiStepLR", milestones=list(size.milestones), gamma=0.1))],
        iterator_train__shuffle=True,
        train_split=None,
        device=device,
        verbose=0,
    )


def rows(device: str, smoke: bool, done: frozenset[str] = frozenset()) -> Iterator[tuple[str, dict[str, Any]]]:
    wanted = [(way, seed) for seed in ((0,) if smoke else SEEDS) for way in WAYS if f"{way}/{seed}" not in done]
    if not wanted:
        return
    size, parts = (SMOKE, noise()) if smoke else (Size(), cifar10())
    teacher = trained_teacher(size, parts, device, keep=not smoke)
    started = time.perf_counter()
    nfk = NFKTransformer(teacher, 4 if smoke else N_COMPONENTS, device=device, random_state=0)
    embedding = nfk.fit_transform(parts[0][0])
    yield (
        "teacher",
        {
            "accuracy": share(teacher, *parts[2], device),
            "n_parameters": nfk.n_parameters_,
            "embedding_seconds": significant(time.perf_counter() - started),
        },
    )
    student = net(size, size.student, device)
    for way, seed in wanted:
        started = time.perf_counter()
        distiller = NFKDistiller(student, Given(embedding), random_state=seed, **WAYS[way]).fit(*parts[0])
        yield (
            f"{way}/{seed}",
            {
                "validation_accuracy": significant(distiller.score(*parts[1]), 6),
                "accuracy": significant(distiller.score(*parts[2]), 6),
                "n_test": len(parts[2][1]),
                "seconds": significant(time.perf_counter() - started),
            },
        )


def trained_teacher(size: Size, parts: Any, device: str, keep: bool) -> nn.Module:
    """Train the teacher on the student's training rows, or read the weights of an earlier training."""
    path = CACHE / "weights-wrn-40-2.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = net(size, size.teacher, device).initialize()
        if keep and path.exists():
            teacher.module_.load_state_dict(torch.load(path, weights_only=True))
        else:
            teacher.partial_fit(*parts[0])
    if keep:
        CACHE.mkdir(exist_ok=True)
        torch.save(teacher.module_.state_dict(), path)
    return teacher.module_.eval()


@torch.no_grad()
def share(model: nn.Module, X: np.ndarray, y: np.ndarray, device: str) -> float:
    """Share of the rows that a model classifies."""
    guessed = torch.cat([model(x.to(device)).argmax(1).cpu() for x in torch.from_numpy(X).split(500)])
    return significant(float((guessed.numpy() == y).mean()), 6)


def cifar10() -> list[tuple[np.ndarray, np.ndarray]]:
    """Training, validation and test rows, each channel standardised by the training rows."""
    images, labels = images_of("cifar10", "train")
    order = np.random.default_rng(0).permutation(len(labels))
    test = images_of("cifar10", "test")
    cut = len(labels) - N_VALIDATION
    parts = [(images[own], labels[own].astype(np.int64)) for own in (order[:cut], order[cut:])]
    parts.append((test[0], test[1].astype(np.int64)))
    mean, std = (getattr(parts[0][0], name)((0, 2, 3), keepdims=True) for name in ("mean", "std"))
    return [((X - mean) / std, y) for X, y in parts]


def noise() -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of nothing, for a smoke run of one step."""
    X = np.random.default_rng(0).normal(size=(40, 3, 32, 32)).astype(np.float32)
    return [(X, np.arange(40) % 10)] * 3
