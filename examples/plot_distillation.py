"""
A student of the Fisher embedding
=================================

A large network has learned whether a handwritten digit is odd. A student with few labels of the ten digits learns from
them and, on all rows, from the Fisher embedding of that teacher: :class:`~sknfk.NFKDistiller`, Table 3 of the NFK
paper at a reduced size. The control gives the student the embedding of other rows.
"""

# %%
# A teacher of another task
# -------------------------
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import NFKDistiller, NFKTransformer

images, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split((images / 16).astype(np.float32), y, test_size=600, random_state=0)


class Network(nn.Module):
    def __init__(self, width, n_classes):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(64, width), nn.ReLU()), nn.Linear(width, n_classes)

    def forward(self, x):
        return self.head(self.body(x))


def net(width, n_classes, n_epochs):
    return NeuralNetClassifier(
        Network,
        module__width=width,
        module__n_classes=n_classes,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=5e-3,
        max_epochs=n_epochs,
        batch_size=100,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )


torch.manual_seed(0)
parity = net(128, 2, 30).fit(X, y % 2)
print(f"the teacher, odd or even: {parity.score(X_test, y_test % 2):.3f}")
embedding = FrozenEstimator(NFKTransformer(FrozenEstimator(parity), n_components=20, random_state=0).fit(X))

# %%
# A student with fifty labels
# ---------------------------
# The student alone reads fifty rows an epoch, the others all of them: it gets as many steps by more epochs.
labels = np.where(np.arange(len(y)) < 50, y, -1)
student, seeds = net(32, 10, 30), range(3)
others = make_pipeline(embedding, FunctionTransformer(np.random.default_rng(0).permutation))


def accuracies(student, teacher, alpha):
    fits = (NFKDistiller(student, teacher, alpha=alpha, random_state=seed).fit(X, labels) for seed in seeds)
    return [fit.score(X_test, y_test) for fit in fits]


alone = np.mean(accuracies(clone(student).set_params(max_epochs=360), embedding, 1.0))
print(f"labels alone: {alone:.3f}")

# %%
# How much weight for the embedding?
# ----------------------------------
alphas = (0.1, 0.5, 0.9)
figure, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
ax.axhline(alone, color="tab:grey", linestyle="--", label="labels alone")
for name, teacher in (("embedding", embedding), ("embedding of other rows", others)):
    means = [np.mean(accuracies(student, teacher, alpha)) for alpha in alphas]
    ax.plot(alphas, means, marker="o", label=name)
    print(f"{name}: {max(means):.3f} at alpha={alphas[int(np.argmax(means))]}")
ax.set(xlabel="alpha, the weight of the labels", ylabel="accuracy of ten digits")
ax.legend()
plt.show()
