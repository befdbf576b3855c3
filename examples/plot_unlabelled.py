"""
Few labels, many rows
=====================

Table 2 of the NFK paper, at a reduced size: all rows shape the embedding, those with a label teach the probe. Beside
it stand an embedding of the labelled rows alone, and self-training, which labels the other rows by itself. The full
size is ``python -m benchmarks semi_supervised``.
"""

import matplotlib.pyplot as plt
import numpy as np
from parity import SMALL, load_images
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.semi_supervised import SelfTrainingClassifier
from small_gan import signed, trained_gan

from sknfk import NFKTransformer
from sknfk.densities import Discriminator
from sknfk.inspection import draw_labels

digits = load_images()
X, X_test, y, y_test = signed(digits.X_train), signed(digits.X_test), digits.y_train, digits.y_test
D, G = trained_gan(X)  # of all rows: it needs no labels
nfk = NFKTransformer(D, n_components=32, density=Discriminator(G), random_state=0)
Z, Z_test = nfk.fit_transform(X), nfk.transform(X_test)
probe = make_pipeline(Normalizer(), LogisticRegression(C=1000, max_iter=1000))
self_training = SelfTrainingClassifier(probe, threshold=0.9)


def accuracies(labelled):
    """Test accuracy of each way, from the labels of these rows."""
    own = clone(nfk).fit(X[labelled])
    partly = np.full(len(y), -1)  # a row without a label
    partly[labelled] = y[labelled]
    return {
        "embedding of all rows": clone(probe).fit(Z[labelled], y[labelled]).score(Z_test, y_test),
        "the same, self-training": clone(self_training).fit(Z, partly).score(Z_test, y_test),
        "embedding of labelled rows": clone(probe)
        .fit(own.transform(X[labelled]), y[labelled])
        .score(own.transform(X_test), y_test),
        "pixels": clone(probe).fit(X[labelled], y[labelled]).score(X_test, y_test),
        "pixels, self-training": clone(self_training).fit(X, partly).score(X_test, y_test),
    }


# %%
# Bars are one standard deviation over five draws of labels.

budgets = (4, 8) if SMALL else (5, 10, 20, 40)
found = [[accuracies(labelled) for labelled in draw_labels(y, n, n_draws=5, random_state=0)] for n in budgets]
figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
for name in found[0][0]:
    scores = np.array([[draw[name] for draw in draws] for draws in found])  # (budget, draw)
    ax.errorbar([10 * n for n in budgets], scores.mean(1), yerr=scores.std(1), marker="o", capsize=3, label=name)
    print(f"{name:27} {'  '.join(f'{mean:.3f}' for mean in scores.mean(1))}")
ax.set(xlabel="Labels", ylabel="Accuracy", xscale="log")
ax.set_xticks([10 * n for n in budgets], [10 * n for n in budgets])
ax.minorticks_off()
ax.legend()

# %%
# Compare the first line with the third: does the embedding gain by rows without a label? And both with the pixels,
# since digits of 8 by 8 pixels are easy and this GAN is small: such a comparison is what says whether it pays.
