"""The pattern of Mu et al.'s Table 3 on real weights: activations, gradients, both, fine-tuning, and random weights.

A row is one draw of 1,000 training rows for one pair of a backbone and a data set, with the accuracy of every way on
the first 5,000 test images. Penalties and rates are chosen on 1,000 more training images. Every way learns the same
layers, those that ``layers="auto"`` finds, on the same output of the layers below. Rows that an earlier run has
written are kept.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from sknfk import GradientFeatureClassifier
from sknfk.gradients import ParameterSpace, TangentModel, topmost_layer

from .cases import zoo
from .measuring import significant
from .pairs import TRAINED, grey_images

TAKES = ("cases", "done")
DATASETS = ("mnist", "fashion")
SEEDS = (0, 1, 2)
N_TRAIN, N_VALIDATION, N_TEST = 1_000, 1_000, 5_000
ALPHAS = {"activation": (1e-5, 1e-4, 1e-3, 1e-2), "gradient": (1e-3, 1e-2), "full": (1e-3, 1e-2)}
STEPS = 30  # of the quasi-Newton solver
RATES, EPOCHS, BATCH = (1e-4, 1e-3), 30, 64  # of fine-tuning, by Adam
WAYS = ("activation", "gradient", "full", "fine-tuned", "activation, random weights", "full, random weights")

Rows = tuple[np.ndarray, np.ndarray]


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        yield "tiny/noise/0", measured(tiny, [noise(n) for n in (24, 12, 12)], 0, device, steps=2, epochs=1)
        return
    for name in BACKBONES:
        for dataset in DATASETS:
            for seed in SEEDS:
                key = f"{name}/{dataset}/{seed}"
                if key not in done and (not cases or name in cases or key in cases):
                    yield key, measured(BACKBONES[name], split(name, dataset, seed), seed, device)


def measured(build, parts: list[Rows], seed: int, device: str, steps: int = STEPS, epochs: int = EPOCHS) -> dict:
    """Return the accuracy of every way on the last of three parts: training, validation, test."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone, shuffled = build(), randomised(build())
        found, seconds = {}, {}
        for way in WAYS:
            own = shuffled if way.endswith("random weights") else backbone
            started = time.perf_counter()
            if way == "fine-tuned":
                found[way] = fine_tuned(own, parts, device, epochs)
            else:
                found[way] = classified(own, way.split(",")[0], parts, device, steps, seed)
            seconds[way] = significant(time.perf_counter() - started)
    layer = topmost_layer(backbone)
    return {
        "layer": layer,
        "n_parameters": ParameterSpace.of_layers(backbone, layer).n_parameters,
        "n_train": len(parts[0][0]),
        "n_test": len(parts[2][0]),
        "accuracy": {way: significant(accuracy, 6) for way, (accuracy, _) in found.items()},
        "chosen": {way: chosen for way, (_, chosen) in found.items()},
        "seconds": seconds,
    }


def classified(
    backbone: nn.Module, features: str, parts: list[Rows], device: str, steps: int, seed: int
) -> tuple[float, float]:
    """Test accuracy of the classifier, and the penalty chosen on the validation rows."""
    train, validation, test = parts
    best: tuple[float, float, Any] | None = None
    for alpha in ALPHAS[features]:
        classifier = GradientFeatureClassifier(
            backbone, features=features, alpha=alpha, max_iter=steps, batch_size=500, device=device, random_state=seed
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # STEPS is all that it gets
            classifier.fit(*train)
        score = classifier.score(*validation)
        if best is None or score > best[0]:
            best = (score, alpha, classifier)
    assert best is not None
    return float(best[2].score(*test)), best[1]


def fine_tuned(backbone: nn.Module, parts: list[Rows], device: str, epochs: int) -> tuple[float, float]:
    """Test accuracy of fine-tuning theta_2 and the head, and the rate chosen; the head begins at the activations'."""
    start = GradientFeatureClassifier(backbone, features="activation", device=device, batch_size=500).fit(*parts[0])
    space = ParameterSpace.named(start.module_, start.parameter_names_)
    tangent = TangentModel(start.module_, space)
    head = nn.Linear(start.coef_.shape[1], start.coef_.shape[0]).to(device)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(start.coef_))
        head.bias.copy_(torch.from_numpy(start.intercept_))
    z = [torch.cat([tangent.lowered(x.to(device)) for x in torch.from_numpy(X).split(500)]) for X, _ in parts]
    y = [torch.from_numpy(y).to(device) for _, y in parts]
    best = (-1.0, 0.0, 0.0)
    for rate in RATES:
        model = nn.Sequential(copy.deepcopy(tangent.upper), copy.deepcopy(head))
        moving = [p for n, p in model[0].named_parameters() if n.removeprefix("model.") in space.names]
        moving = [p.requires_grad_() for p in moving] + list(model[1].parameters())
        optimiser = torch.optim.Adam(moving, lr=rate)
        for _ in range(epochs):
            for chosen in torch.randperm(len(y[0])).split(BATCH):
                optimiser.zero_grad()
                F.cross_entropy(model(z[0][chosen].clone()), y[0][chosen]).backward()
                optimiser.step()
        best = max(best, (accuracy(model, z[1], y[1]), accuracy(model, z[2], y[2]), rate), key=lambda own: own[0])
    return best[1], best[2]


@torch.no_grad()
def accuracy(model: nn.Module, z: Tensor, y: Tensor) -> float:
    guessed = torch.cat([model(rows.clone()).argmax(1) for rows in z.split(500)])
    return float((guessed == y).double().mean())


def split(name: str, dataset: str, seed: int) -> list[Rows]:
    """Training and validation rows drawn from the training images, and test images, as the backbone reads them."""
    read, parts = TRAINED[name].read, []
    images, labels = grey_images(dataset, "train")
    order = np.random.default_rng(seed).permutation(len(labels))[: N_TRAIN + N_VALIDATION]
    for images_of_part, labels_of_part in (
        (images[order[:N_TRAIN]], labels[order[:N_TRAIN]]),
        (images[order[N_TRAIN:]], labels[order[N_TRAIN:]]),
        tuple(part[:N_TEST] for part in grey_images(dataset, "test")),
    ):
        parts.append((read(torch.from_numpy(images_of_part)).numpy(), labels_of_part.astype(np.int64)))
    return parts


def randomised(backbone: nn.Module) -> nn.Module:
    """Draw all weights anew."""
    for layer in backbone.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    return backbone


def vae() -> nn.Module:
    """The encoder, up to the mean of the latent variable, (B, 20)."""
    model = TRAINED["vae"].build()
    return nn.Sequential(model.fc1, nn.ReLU(), model.fc21)


def dcgan() -> nn.Module:
    """The discriminator without its last convolution, (B, 2304)."""
    return nn.Sequential(*TRAINED["dcgan"].build()[:-1], nn.Flatten())


def resnet20() -> nn.Module:
    """CIFAR-10's ResNet-20 without its head, (B, 64)."""
    model = zoo("models").cifar10_resnet(20)
    parts = {name: getattr(model, name) for name in ("conv1", "bn1")} | {"relu": nn.ReLU()}
    parts |= {name: getattr(model, name) for name in ("layer1", "layer2", "layer3")}
    return nn.Sequential(OrderedDict(parts | {"pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()})).eval()


BACKBONES = {"vae": vae, "dcgan": dcgan, "resnet20": resnet20}


def tiny() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten()).eval()


def noise(n_rows: int) -> Rows:
    X = np.random.default_rng(n_rows).normal(size=(n_rows, 1, 6, 6)).astype(np.float32)
    return X, np.arange(n_rows) % 3
