"""The paper's distillation (appendix D.2): WRN-40-2 to WRN-16-1 on CIFAR-10, for a GPU.

The teacher is that of ``train_classifiers wrn40_2``; students train on the same 40,000 images, with shifts and flips,
SGD with momentum and the paper's schedule. The embedding, of the images as they are, has 20 components. The other
10,000 training images are the validation rows. Of the test images only the first 1,017 are at hand: the standard error
of an accuracy is about a point. Rows that an earlier run has written are kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import Tensor, nn

from sknfk import NFKDistiller, NFKTransformer

from . import training
from .bench_distillation import Given
from .measuring import significant
from .networks import wide_resnet
from .train_classifiers import EPOCHS, WRN_40_2
from .training_data import N_SELECTION, cifar10_tensors, normal

TAKES = ("done",)
N_COMPONENTS = 20
SEEDS = (0, 1, 2)
WAYS = {
    "labels alone": {"alpha": 1.0},
    **{f"NFK, {d}, alpha={a:g}": {"alpha": a, "distance": d} for d in ("l2", "cosine") for a in (0.5, 0.9)},
}


class Moved(nn.Module):
    """In training, images shifted and flipped at random; else images as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return training.cropped_and_flipped(x, None) if self.training else x


def moving_resnet(depth: int, width: int) -> nn.Sequential:
    return nn.Sequential(Moved(), *wide_resnet(depth, width))


def net(depth: int, width: int, n_epochs: int, device: str) -> NeuralNetClassifier:
    milestones = [round(0.6 * n_epochs), round(0.8 * n_epochs)]
    return NeuralNetClassifier(
        moving_resnet,
        module__depth=depth,
        module__width=width,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        optimizer__weight_decay=5e-4,
        lr=0.1,
        max_epochs=n_epochs,
        batch_size=128,
        callbacks=[("schedule", LRScheduler("MultiStepLR", milestones=milestones, gamma=0.1))],
        iterator_train__shuffle=True,
        train_split=None,
        device=device,
        verbose=0,
    )


def rows(device: str, smoke: bool, done: frozenset[str] = frozenset()) -> Iterator[tuple[str, dict[str, Any]]]:
    wanted = [(way, seed) for seed in ((0,) if smoke else SEEDS) for way in WAYS if f"{way}/{seed}" not in done]
    if not wanted:
        return
    if smoke:
        teacher, student, parts = wide_resnet(10, 1).eval(), net(10, 1, 1, device), noise()
    else:
        trained = training.finished(WRN_40_2)
        if trained is None:
            print("left out: the teacher's training has not ended; see benchmarks/train_classifiers.py", flush=True)
            return
        teacher, student, parts = trained["model"], net(16, 1, EPOCHS, device), cifar10()
    started = time.perf_counter()
    nfk = NFKTransformer(teacher, 4 if smoke else N_COMPONENTS, device=device, random_state=0)
    embedding = nfk.fit_transform(parts[0][0])
    yield (
        "teacher",
        {
            "accuracy": share(teacher.to(device), *parts[2], device),
            "n_parameters": nfk.n_parameters_,
            "embedding_seconds": significant(time.perf_counter() - started),
        },
    )
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


@torch.no_grad()
def share(model: nn.Module, X: np.ndarray, y: np.ndarray, device: str) -> float:
    """Share of the rows that a model classifies."""
    guessed = torch.cat([model(x.to(device)).argmax(1).cpu() for x in torch.from_numpy(X).split(500)])
    return significant(float((guessed.numpy() == y).mean()), 6)


def cifar10() -> list[tuple[np.ndarray, np.ndarray]]:
    """Training, validation and test rows, normalised as the teacher reads them."""
    images, labels = cifar10_tensors("train")
    parts = [(images[:-N_SELECTION], labels[:-N_SELECTION]), (images[-N_SELECTION:], labels[-N_SELECTION:])]
    return [(normal(X).numpy(), y.long().numpy()) for X, y in (*parts, cifar10_tensors("test"))]


def noise() -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of nothing, for a smoke run of one step."""
    X = np.random.default_rng(0).normal(size=(40, 3, 32, 32)).astype(np.float32)
    return [(X, np.arange(40) % 10)] * 3
