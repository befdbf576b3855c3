"""A probe from few labels, in plain scikit-learn: all rows shape the embedding, labelled rows teach the probe.

Rows without a label have y == -1. `SelfTrainingClassifier(..., max_iter=0)` fits its classifier on the labelled
rows alone (a bare LogisticRegression would learn -1 as an eleventh class), and `semi_supervised_split` keeps
unlabelled rows out of the scores.

    python examples/few_labels.py
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.semi_supervised import SelfTrainingClassifier
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import NFKTransformer, semi_supervised_split

N_LABELLED = 100


def main() -> None:
    images, digits = load_digits(return_X_y=True)
    X = (images / 16).astype(np.float32)
    rng = np.random.default_rng(0)
    y = np.full(len(digits), -1)
    labelled = rng.choice(len(digits), N_LABELLED, replace=False)
    y[labelled] = digits[labelled]

    # A model of another task, for which every row has a label: is the digit odd?
    torch.manual_seed(0)
    parity = NeuralNetClassifier(
        nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        train_split=None,
        verbose=0,
    ).fit(X, digits % 2)

    nfk = NFKTransformer(parity.module_, n_components=32, normalize="l2", random_state=0)
    probe = SelfTrainingClassifier(LogisticRegression(max_iter=1000), max_iter=0)
    search = GridSearchCV(
        Pipeline([("nfk", nfk), ("probe", probe)]),
        {"probe__estimator__C": [1.0, 10.0, 100.0]},
        cv=semi_supervised_split(y, n_splits=3, random_state=0),
    ).fit(X, y)

    hidden = y == -1
    accuracy = np.mean(search.predict(X[hidden]) == digits[hidden])
    print(f"{N_LABELLED} labels, C = {search.best_params_['probe__estimator__C']:g}:")
    print(f"  cross-validated accuracy on labelled rows {search.best_score_:.3f}")
    print(f"  accuracy on the {hidden.sum()} rows without a label {accuracy:.3f}")


if __name__ == "__main__":
    main()
