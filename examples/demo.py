"""Probe a network for a task that it was never trained on.

A small convolutional net learns one bit about handwritten digits: odd or even. Then it is asked which of the ten
digits it sees, by a linear probe with a few labels. What is the best feature vector to give the probe?

    make demo                                      # the table, and examples/output/demo.png
    python examples/demo.py --output figure.png

Nothing is downloaded. The code reads from the bottom, `main`, upwards.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, StandardScaler
from skorch import NeuralNetClassifier
from threadpoolctl import threadpool_limits
from torch import nn

from sknfk import NFKTransformer
from sknfk.inspection import LabelCurveDisplay, RankCurveDisplay, SpectrumDisplay, draw_labels

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SEED = 0
N_LABELS = (1, 3, 10, None)  # None: all
CAPTION = """\
Which of ten digits, from features of a net trained on odd or even: test accuracy with so many labels per class, mean
± standard deviation over {n_draws} draws of labels, the same draws for every row. All rows go through the same search:
logistic regression, with C from 1 to 1000 and features as they are, in unit rows, standardised or divided by one
number, whichever cross-validation on the labelled images prefers. One label per class leaves nothing to validate on;
there rows have unit length and C is 1000. Seconds and passes over the training images are what computing the
features took, training the net not included."""


@dataclass(frozen=True)
class Digits:
    """Images (N, 1, 8, 8) in [0, 1] and their digits, training and test."""

    X_train: np.ndarray
    X_test: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class Features:
    """One way to describe every image, with what it cost."""

    train: np.ndarray
    test: np.ndarray
    seconds: float
    passes: int = 0


class GlobalScaler(TransformerMixin, BaseEstimator):
    """Divide by one number, so that rows have unit length on average; the columns keep their weights."""

    def fit(self, X, y=None):
        self.scale_ = np.sqrt(np.mean(np.sum(np.square(X), axis=1)))
        return self

    def transform(self, X):
        return X / self.scale_


def load_split(n_train: int) -> Digits:
    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    sizes = {"train_size": n_train, "test_size": 597}
    return Digits(*train_test_split(images, digits, **sizes, stratify=digits, random_state=SEED))


def convnet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2)),
    )


def train_on_parity(digits: Digits, n_epochs: int) -> NeuralNetClassifier:
    torch.manual_seed(SEED)
    net = NeuralNetClassifier(
        convnet,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        max_epochs=n_epochs,
        batch_size=32,
        train_split=None,
        verbose=0,
    )
    return net.fit(digits.X_train, digits.y_train % 2)


def flatten(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def activate(layers: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return layers(torch.from_numpy(images)).numpy()


def measure(transform, digits: Digits, *, fit=None) -> Features:
    """Compute the features of both splits, by the clock."""
    start = time.perf_counter()
    if fit is not None:
        fit(digits.X_train)
    train, test = transform(digits.X_train), transform(digits.X_test)
    return Features(train, test, seconds=time.perf_counter() - start)


def concatenate(*blocks: Features) -> Features:
    """Put feature sets side by side, each brought to unit length on average."""
    scalers = [GlobalScaler().fit(block.train) for block in blocks]
    return Features(
        np.hstack([scaler.transform(block.train) for scaler, block in zip(scalers, blocks, strict=True)]),
        np.hstack([scaler.transform(block.test) for scaler, block in zip(scalers, blocks, strict=True)]),
        seconds=sum(block.seconds for block in blocks),
        passes=max(block.passes for block in blocks),
    )


def describe(net: NeuralNetClassifier, nfk: NFKTransformer, digits: Digits) -> dict[str, Features]:
    """Compute every feature set. None of them is told which digit an image shows."""
    embedding = measure(nfk.transform, digits, fit=nfk.fit)
    embedding = replace(embedding, passes=1 + nfk.n_sweeps_)  # one for the statistics
    convolutional = measure(partial(activate, net.module_[:7]), digits)
    pca = make_pipeline(FunctionTransformer(flatten), PCA(32, random_state=SEED))
    return {
        "NFK-64": embedding,
        "last layer": measure(partial(activate, net.module_[:9]), digits),
        "convolutional layer": convolutional,
        "convolutional + NFK-64": concatenate(convolutional, embedding),
        "pixels": measure(flatten, digits),
        "pixels, PCA-32": measure(pca.transform, digits, fit=pca.fit),
    }


def choose_probe(n_labels: int | None):
    """Return the probe for a number of labels per class: the same search for every feature set."""
    probe = make_pipeline(Normalizer(), LogisticRegression(C=1000, max_iter=300))
    if n_labels == 1:
        # Two rows of a class are needed to validate a choice. Without one: unit rows, and nearly a hard margin,
        # which depends least on how large features are.
        return probe
    grid = {
        "normalizer": ["passthrough", Normalizer(), StandardScaler(), GlobalScaler()],
        "logisticregression__C": [1, 10, 100, 1000],
    }
    return GridSearchCV(probe, grid, cv=StratifiedKFold(3, shuffle=True, random_state=SEED))


def draw_figure(features: dict[str, Features], nfk: NFKTransformer, digits: Digits, n_draws: int):
    """Probe all feature sets and draw what was found, in three panels."""
    options = {"width_ratios": (1.4, 1, 1), "layout": "constrained"}
    figure, (labels, spectrum, ranks) = plt.subplots(1, 3, figsize=(11, 3.8), **options)
    draw = {"n_draws": n_draws, "random_state": SEED}

    labels.set_title("Ten digits from a few labels")
    blocks = {name: (feature.train, feature.test) for name, feature in features.items()}
    targets = digits.y_train, digits.y_test
    curves = LabelCurveDisplay.from_features(blocks, choose_probe, *targets, n_labels=N_LABELS, **draw, ax=labels)

    spectrum.set_title("Spectrum of the kernel")
    SpectrumDisplay.from_estimator(nfk, ax=spectrum, name="NFK")

    # Every rank comes out of the one fit. The splits are those of the first panel, at 10 labels per class.
    ranks.set_title("One fit, 10 labels per class")
    images, y = np.concatenate([digits.X_train, digits.X_test]), np.concatenate(targets)
    test = np.arange(len(digits.X_train), len(images))
    splits = [(train, test) for train in draw_labels(digits.y_train, 10, **draw)]
    RankCurveDisplay.from_estimator(nfk, choose_probe(10), images, y, cv=splits, ax=ranks, name="NFK")
    return figure, curves.scores


def tabulate(features: dict[str, Features], scores: dict[str, np.ndarray]) -> str:
    """Write the table as Markdown, which also reads well in a terminal."""
    header = ["features", "dimension", "seconds", "passes", *(f"{n or 'all'} per class" for n in N_LABELS)]
    rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for name, feature in features.items():
        cells = [f"{np.mean(s):.3f} ± {np.std(s):.3f}" for s in scores[name][:-1]]
        cells.append(f"{scores[name][-1].mean():.3f}")  # all labels are one draw
        rows.append([name, str(feature.train.shape[1]), f"{feature.seconds:.2f}", str(feature.passes or "–"), *cells])
    widths = [max(len(row[j]) for row in rows) for j in range(len(header))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "output" / "demo.png")
    parser.add_argument("--smoke", action="store_true", help="few images, epochs and draws: does it run?")
    options = parser.parse_args()
    start = time.perf_counter()
    n_train, n_epochs, n_draws = (200, 2, 2) if options.smoke else (1200, 30, 5)

    digits = load_split(n_train)
    net = train_on_parity(digits, n_epochs)
    print(f"odd or even: test accuracy {net.score(digits.X_test, digits.y_test % 2):.3f}")

    # The library in three lines. FrozenEstimator says that the net is trained; it is only read.
    nfk = NFKTransformer(FrozenEstimator(net), n_components=64, random_state=SEED)
    probe = make_pipeline(nfk, Normalizer(), LogisticRegression(C=10)).fit(digits.X_train, digits.y_train)
    print(f"which digit: test accuracy {probe.score(digits.X_test, digits.y_test):.3f} with all labels\n")

    features = describe(net, nfk, digits)
    # The extremes of the search, such as unscaled features with C = 1000, may stop early: then they lose.
    warnings.simplefilter("ignore", ConvergenceWarning)
    with threadpool_limits(1, user_api="blas"):  # the probes' matrices are too small to share between cores
        figure, scores = draw_figure(features, nfk, digits, n_draws)
    report = f"{tabulate(features, scores)}\n\n{CAPTION.format(n_draws=n_draws)}"
    print(report)

    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=120)
    options.output.with_suffix(".md").write_text(report + "\n", encoding="utf-8")
    print(f"\nwrote {options.output} in {time.perf_counter() - start:.0f} seconds")


if __name__ == "__main__":
    main()
