"""
Accuracy against rank
=====================

Figure 7 of the paper, at a reduced size: the embedding is factorised once, and a probe sees its first columns. The
model knows odd from even; the probe is asked for the digit. The full size is ``python -m benchmarks rank``.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import NFKTransformer, TakeComponents
from sknfk.inspection import RankCurveDisplay, draw_labels

pixels, digits = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split((pixels / 16).astype(np.float32), digits, test_size=600, random_state=0)

torch.manual_seed(0)
parity = NeuralNetClassifier(
    nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)),
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=1e-2,
    train_split=None,
    verbose=0,
).fit(X, y % 2)

# %%
# The leading components of a larger fit are those of a smaller one, so that a rank is a choice of columns.
# :class:`~sknfk.TakeComponents` makes it a step of a pipeline, and ``memory=`` keeps the one factorisation in a search.
nfk = NFKTransformer(parity.module_, 256, density="classifier", random_state=0).fit(X)
Z, Z_test = nfk.transform(X), nfk.transform(X_test)
shares = np.cumsum(nfk.explained_variance_ratio_)
draws = draw_labels(y, 30, n_draws=3, random_state=0)
ranks = [2, 4, 8, 16, 32, 64, 128, 256]
accuracies = []
for rank in ranks:
    probe = make_pipeline(TakeComponents(rank), StandardScaler(), LogisticRegression(max_iter=2000))
    accuracies.append([probe.fit(Z[rows], y[rows]).score(Z_test, y_test) for rows in draws])
    print(f"rank {rank}: accuracy {np.mean(accuracies[-1]):.3f}, share of the trace {shares[rank - 1]:.3f}")

RankCurveDisplay(ranks=ranks, scores=accuracies, score_name="Accuracy, 30 labels a class").plot()

plt.show()
