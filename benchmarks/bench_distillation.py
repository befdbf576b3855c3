"""Does a teacher's Fisher embedding help a student? Fashion-MNIST, beside logits and hidden activations distilled.

The teacher, a convolutional net, is trained here on the student's 10,000 training rows alone, its epoch chosen on 5,000
validation rows. A row of the results is one way and one seed: every setting of the way is tried, the best on the
validation rows is kept, and its accuracy on all 10,000 test images is reported. A seed draws the student's weights and
batches, the same for all ways, so that ways are compared in pairs. "NFK, shuffled" is the control: the embedding of
other rows. Rows that an earlier run has written are kept.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, TransformerMixin
from skorch import NeuralNetClassifier
from torch import Tensor, nn

from sknfk import NFKDistiller, NFKTransformer

from . import trained
from .measuring import significant
from .pairs import grey_images

TAKES = ("cases", "done")
N_TRAIN, N_VALIDATION = 10_000, 5_000
SEEDS = (0, 1, 2)
N_COMPONENTS = 20  # the paper's
EPOCHS, TEACHER_EPOCHS = 20, 15
ALPHAS, TEMPERATURES = (0.1, 0.5, 0.9), (1.0, 2.0, 4.0, 8.0)


class Given(TransformerMixin, BaseEstimator):
    """An embedding that was computed before, of the rows of fit."""

    def __init__(self, embedding: np.ndarray) -> None:
        self.embedding = embedding

    def fit(self, X: np.ndarray, y: np.ndarray | None = None) -> Given:
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        return self.embedding


@dataclass
class Task:
    """Rows, what the teacher says of the training rows, and the student."""

    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    embeddings: dict[str, np.ndarray]  # "logits", "hidden", "NFK", "NFK, shuffled"
    about: dict[str, Any]
    student: NeuralNetClassifier = field(default_factory=lambda: student(EPOCHS))
    alphas: tuple[float, ...] = ALPHAS


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    wanted = [f"{way}/{seed}" for seed in SEEDS for way in WAYS]
    wanted = [key for key in wanted if key not in done and (not cases or key.split("/")[0] in cases)]
    if smoke:
        wanted = [f"{way}/0" for way in WAYS]
    if not wanted:
        return
    task = noise() if smoke else fashion(device)
    yield "teacher", task.about
    for key in wanted:
        way, seed = key.split("/")
        yield key, measured(task, way, int(seed))


def measured(task: Task, way: str, seed: int) -> dict[str, Any]:
    """Try every setting of a way; return what the best on the validation rows gives on the test rows."""
    scores, best = {}, None
    started = time.perf_counter()
    for setting in WAYS[way](task.alphas):
        distiller = NFKDistiller(task.student, random_state=seed, **options(task, way, setting)).fit(*task.train)
        scores[str(setting)] = significant(distiller.score(*task.validation), 6)
        if best is None or scores[str(setting)] > best[0]:
            best = (scores[str(setting)], setting, distiller)
    assert best is not None
    return {
        "accuracy": significant(best[2].score(*task.test), 6),
        "validation_accuracy": best[0],
        "chosen": best[1],
        "tried": scores,
        "seconds_per_fit": significant((time.perf_counter() - started) / len(scores)),
    }


def options(task: Task, way: str, setting: dict[str, Any]) -> dict[str, Any]:
    """Arguments of NFKDistiller for one way and setting."""
    setting = dict(setting)
    if way == "labels alone":
        return {"teacher": Given(task.embeddings["NFK"]), **setting}
    if way == "logits":
        distance = partial(softened, temperature=setting.pop("temperature"))
        own = {"layer": "head", "projection": None, "distance": distance}
        return {"teacher": Given(task.embeddings["logits"]), **own, **setting}
    return {"teacher": Given(task.embeddings[way]), **setting}


def of_alpha(alphas: tuple[float, ...]) -> list[dict[str, Any]]:
    return [{"alpha": alpha} for alpha in alphas]


def of_alpha_and_distance(alphas: tuple[float, ...]) -> list[dict[str, Any]]:
    return [{"alpha": alpha, "distance": d} for alpha, d in itertools.product(alphas, ("l2", "cosine"))]


def of_alpha_and_temperature(alphas: tuple[float, ...]) -> list[dict[str, Any]]:
    return [{"alpha": alpha, "temperature": t} for alpha, t in itertools.product(alphas, TEMPERATURES)]


# "logits" is Hinton, Vinyals and Dean (2015), "hidden" the hints of FitNets (Romero et al. 2015).
WAYS: dict[str, Callable[[tuple[float, ...]], list[dict[str, Any]]]] = {
    "labels alone": lambda alphas: [{"alpha": 1.0}],
    "logits": of_alpha_and_temperature,
    "hidden": of_alpha,
    "NFK": of_alpha_and_distance,
    "NFK, shuffled": of_alpha_and_distance,
}


def softened(h: Tensor, e: Tensor, temperature: float) -> Tensor:
    """T^2 times the divergence of softened probabilities."""
    own, others = F.log_softmax(h / temperature, 1), F.softmax(e / temperature, 1)
    return temperature**2 * F.kl_div(own, others, reduction="batchmean")


class Teacher(nn.Module):
    """Images (B, 1, 28, 28) -> logits (B, 10); 188,234 parameters."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for c_in, c_out in ((1, width), (width, 2 * width), (2 * width, 2 * width)):
            layers += [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * width, 128), nn.ReLU())
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Student(nn.Module):
    """Images (B, 1, 28, 28) -> logits (B, 10); 4,266 parameters."""

    def __init__(self) -> None:
        super().__init__()
        convolutions = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.body = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(392, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def student(n_epochs: int) -> NeuralNetClassifier:
    return NeuralNetClassifier(
        Student,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=2e-3,
        max_epochs=n_epochs,
        batch_size=128,
        iterator_train__shuffle=True,
        verbose=0,
    )


def fashion(device: str) -> Task:
    images, labels = grey_images("fashion", "train")
    order = np.random.default_rng(0).permutation(len(labels))[: N_TRAIN + N_VALIDATION]
    train, validation = order[:N_TRAIN], order[N_TRAIN:]
    X, y = images[:, None], labels.astype(np.int64)
    X_test, y_test = grey_images("fashion", "test")
    parts = (X[train], y[train]), (X[validation], y[validation]), (X_test[:, None], y_test.astype(np.int64))
    teacher = trained.stored("distillation-teacher", Teacher, partial(train_teacher, parts=parts))
    return task_of(teacher, parts, device, student(EPOCHS).set_params(device=device))


def train_teacher(model: nn.Module, parts: Any, n_epochs: int = TEACHER_EPOCHS) -> dict[str, float]:
    """Adam on the training rows; the weights of the epoch best on the validation rows stay."""
    X, y = (torch.from_numpy(part) for part in parts[0])
    optimiser, best = torch.optim.Adam(model.parameters(), lr=1e-3), (-1.0, {})
    for _ in range(n_epochs):
        for chosen in torch.randperm(len(y)).split(128):
            trained.step(optimiser, F.cross_entropy(model(X[chosen]), y[chosen]))
        reached = accuracy(model, *parts[1])
        if reached > best[0]:
            best = (reached, {name: value.clone() for name, value in model.state_dict().items()})
    model.load_state_dict(best[1])
    return {"validation_accuracy": best[0]}


@torch.no_grad()
def outputs(layer: nn.Module, X: np.ndarray) -> np.ndarray:
    return torch.cat([layer(x) for x in torch.from_numpy(X).split(500)]).numpy()


def accuracy(model: nn.Module, X: np.ndarray, y: np.ndarray) -> float:
    return float((outputs(model, X).argmax(1) == y).mean())


def task_of(teacher: nn.Module, parts: Any, device: str, net: NeuralNetClassifier, **others: Any) -> Task:
    """Embed the training rows by the teacher."""
    X = parts[0][0]
    started = time.perf_counter()
    nfk = NFKTransformer(teacher, N_COMPONENTS, device=device, random_state=0)
    embedding = nfk.fit_transform(X)
    about = {
        "n_train": len(X),
        "n_test": len(parts[2][0]),
        "n_parameters": sum(p.numel() for p in teacher.parameters()),
        "n_parameters_of_the_student": sum(p.numel() for p in net.initialize().module_.parameters()),
        "n_components": nfk.n_components_,
        "validation_accuracy": significant(accuracy(teacher, *parts[1]), 6),
        "accuracy": significant(accuracy(teacher, *parts[2]), 6),
        "embedding_seconds": significant(time.perf_counter() - started),
    }
    embeddings = {
        "logits": outputs(teacher, X),
        "hidden": outputs(teacher.body, X),
        "NFK": embedding,
        "NFK, shuffled": np.random.default_rng(0).permutation(embedding),
    }
    return Task(*parts, embeddings, about, net, **others)


def noise() -> Task:
    """Rows of nothing, for a smoke run."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 1, 28, 28)).astype(np.float32), np.arange(40) % 10
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = Teacher(width=2).eval()
    return task_of(teacher, ((X, y),) * 3, "cpu", student(1), alphas=(0.5,))
