"""Ranks of activations and Fisher vectors; what training towards a low rank changes.

``rank/...``: effective rank at each stage of ResNets on CIFAR-10 test images. ``trained/...``: one small network from
the same weights plainly, with the regulariser and with its length term alone: accuracy of a linear classifier on r
principal components of its activations, under pixel noise and under attacks. Accuracies under attack are upper bounds.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import Tensor, nn

from sknfk import LowRankCallback, NFKernel
from sknfk.inspection import effective_rank, layer_spectra, stable_rank, variance_share

from . import attacks
from .measuring import significant
from .pairs import TRAINED, Pair, grey_images

TAKES = ("cases", "done")
SEEDS = (0, 1, 2)
STAGES = ("conv1", "layer1", "layer2", "layer3", "linear")
LAYER, RANK = "relu3", 10  # what is regularised
RANKS = (1, 2, 3, 5, 10, 20, 50)
NOISE = (0.2, 0.4, 0.6, 0.8)
EPS = (0.1, 0.2, 0.3)
ANY = 1.0  # no bound at all: an attack that works leaves nothing
CHANCE = 0.01  # of accuracies on a few hundred images
WAYS = {"plain": None, "low rank": {}, "length alone": {"weight": 0.0}}
FULL = {"n_train": 20_000, "n_test": 2_000, "n_attacked": 500, "n_probe": 3_000, "epochs": 5, "n_queries": 300}
SMOKE = {"n_train": 60, "n_test": 30, "n_attacked": 4, "n_probe": 60, "epochs": 1, "n_queries": 3}


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        images, labels = np.random.default_rng(0).random((90, 28, 28), np.float32), np.arange(90) % 10
        yield "rank/tiny", ranks(network(0), images[:12, None], ("relu1", LAYER))
        yield "trained/noise/0", trained((images[:60], labels[:60]), (images[60:], labels[60:]), 0, SMOKE)
        return
    for name in ("resnet20", "resnet56"):
        if wanted(f"rank/{name}", cases, done):
            pair = Pair(TRAINED[name], "cifar10", on_task=True)
            yield f"rank/{name}", ranks(pair.model.build(), pair.rows("test")[0], STAGES)
    for seed in SEEDS:
        for dataset in ("mnist", "fashion"):
            if wanted(f"trained/{dataset}/{seed}", cases, done):
                sets = (grey_images(dataset, split) for split in ("train", "test"))
                yield f"trained/{dataset}/{seed}", trained(*sets, seed, FULL)


def wanted(key: str, cases: tuple[str, ...], done: frozenset[str]) -> bool:
    """Rows that are asked for by name are measured again."""
    return key in cases if cases else key not in done


def ranks(model: nn.Module, X: np.ndarray, layers: tuple[str, ...]) -> dict[str, Any]:
    kernel = NFKernel(model, density="classifier", random_state=0).fit(X)
    spectra = layer_spectra(model, X, layers, kernel=kernel)
    return {
        "n_examples": len(X),
        "layers": {name: {"n_values": len(s), **measures(s)} for name, s in spectra.items()},
        "n_parameters": kernel.n_parameters_,
    }


def measures(singular_values: np.ndarray) -> dict[str, float]:
    return {
        "effective_rank": significant(effective_rank(singular_values)),
        "stable_rank": significant(stable_rank(singular_values)),
        "share_of_10": significant(variance_share(singular_values, min(10, len(singular_values)))),
    }


def trained(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], seed: int, sizes: dict[str, int]
) -> dict[str, Any]:
    """Train the networks on the same images from the same weights, and measure them."""
    X, y = train[0][: sizes["n_train"], None], train[1][: sizes["n_train"]]
    X_test, y_test = test[0][: sizes["n_test"], None], test[1][: sizes["n_test"]]
    nets = {}
    for way, options in WAYS.items():
        callbacks = [] if options is None else [LowRankCallback(LAYER, RANK, random_state=seed, **options)]
        nets[way] = fitted(X, y, seed, callbacks, sizes["epochs"])
    found = {
        way: {
            "accuracy": accuracy(net, X_test, y_test),
            "layers": {name: measures(s) for name, s in layer_spectra(net, X_test, ("flat", LAYER)).items()},
            "compressed": compressed(net, X[: sizes["n_probe"]], y[: sizes["n_probe"]], X_test, y_test),
            "noise": {str(p): accuracy(net, noisy(X_test, p), y_test) for p in NOISE},
        }
        for way, net in nets.items()
    }
    n = sizes["n_attacked"]
    for way, attacked in attack(nets, X_test[:n], y_test[:n], seed, sizes["n_queries"]).items():
        found[way]["attacks"] = attacked
    return {"seed": seed, "layer": LAYER, "rank": RANK, **sizes, "networks": found}


def network(seed: int) -> nn.Module:
    """Images (B, 1, 28, 28) -> logits (B, 10); 80,202 parameters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = {
            "conv1": nn.Conv2d(1, 16, 5, 2),
            "relu1": nn.ReLU(),
            "conv2": nn.Conv2d(16, 32, 5, 2),
            "relu2": nn.ReLU(),
            "flat": nn.Flatten(),
            "hidden": nn.Linear(512, 128),
            "relu3": nn.ReLU(),
            "head": nn.Linear(128, 10),
        }
        return nn.Sequential(OrderedDict(layers))


def fitted(X: np.ndarray, y: np.ndarray, seed: int, callbacks: list[Any], n_epochs: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = NeuralNetClassifier(
            network(seed),
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=1e-3,
            batch_size=128,
            max_epochs=n_epochs,
            iterator_train__shuffle=True,
            train_split=None,
            callbacks=callbacks,
            verbose=0,
        ).fit(X, y)
    return net.module_.eval().requires_grad_(False)


def accuracy(net: nn.Module, X: np.ndarray | Tensor, y: np.ndarray) -> float:
    x = torch.as_tensor(X)
    with torch.no_grad():
        found = torch.cat([net(part).argmax(1) for part in x.split(500)])
    return float((found == torch.as_tensor(y)).double().mean())


def compressed(
    net: nn.Module, X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray
) -> dict[str, float]:
    """Accuracy of logistic regression on the leading principal components of the activations."""
    body = net[: list(net._modules).index(LAYER) + 1]
    with torch.no_grad():
        known, known_test = (body(torch.from_numpy(images)).numpy() for images in (X, X_test))
    found = {}
    for r in RANKS:
        if r < min(known.shape):
            probe = make_pipeline(PCA(r, random_state=0), StandardScaler(), LogisticRegression(max_iter=1_000))
            found[str(r)] = float(probe.fit(known, y).score(known_test, y_test))
    return found


def noisy(X: np.ndarray, p: float) -> np.ndarray:
    """Each pixel becomes uniform noise with probability p."""
    rng = np.random.default_rng(0)
    return np.where(rng.random(X.shape) < p, rng.random(X.shape), X).astype(np.float32)


def attack(
    nets: dict[str, nn.Module], X: np.ndarray, y: np.ndarray, seed: int, n_queries: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Accuracy of each network under attack by eps; transfer is of what fools another network, the worst of them.

    Gradients are masked where an attack that does not see them does better than the one that does, or where no bound at
    all leaves something right.
    """
    x, target = torch.from_numpy(X), torch.from_numpy(y)
    found: dict[str, dict[str, dict[str, Any]]] = {way: {} for way in nets}
    for eps in (*EPS, ANY):
        white = {
            way: attacks.pgd(net, x, target, eps, torch.Generator().manual_seed(seed)) for way, net in nets.items()
        }
        for way, net in nets.items():
            reached = {name: accuracy(net, attacked, y) for name, attacked in white.items()}
            row: dict[str, Any] = {"pgd": reached.pop(way), "transfer": min(reached.values())}
            if eps == ANY:
                row["masked"] = row["pgd"] > CHANCE
            else:
                generator = torch.Generator().manual_seed(seed)
                row["query"] = accuracy(net, attacks.squares(net, x, target, eps, generator, n_queries), y)
                row["masked"] = min(row["transfer"], row["query"]) < row["pgd"] - CHANCE
            found[way][str(eps)] = row
    return found
