"""
Gradients as features
=====================

A small network has learned whether a handwritten digit is odd. How well can the ten digits be told apart from what it
knows? :class:`~sknfk.GradientFeatureClassifier` reads its activations, the gradients of its upper layer, or both; the
same network with random weights is the control.
"""

# %%
# A backbone of another task
# --------------------------
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import GradientFeatureClassifier

images, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split((images / 16).astype(np.float32), y, test_size=600, random_state=0)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 2),
    )


parity = NeuralNetClassifier(
    network(),
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=3e-3,
    max_epochs=20,
    batch_size=64,
    train_split=None,
    verbose=0,
).fit(X, y % 2)
print(f"odd or even: {parity.score(X_test, y_test % 2):.3f}")

# %%
# What its features tell about the digits
# ---------------------------------------
# The backbone is the network without its head. The layers below the last convolution are run once; then each step of
# the solver is a forward-mode pass of the rest.
backbones = {"trained": parity.module_[:-1], "random weights": network()[:-1]}
n_labels = (50, 100, 200, 400)
figure, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
for weights, style in (("trained", "-"), ("random weights", "--")):
    for features, colour in (("activation", "tab:grey"), ("gradient", "tab:orange"), ("full", "tab:blue")):
        accuracies = []
        for n in n_labels:
            classifier = GradientFeatureClassifier(backbones[weights], features=features, alpha=0.01)
            accuracies.append(classifier.fit(X[:n], y[:n]).score(X_test, y_test))
        ax.plot(n_labels, accuracies, style, color=colour, marker="o", label=f"{features}, {weights}")
        print(f"{weights}, {features}: {accuracies[-1]:.3f} from {n_labels[-1]} labels")
ax.set(xlabel="labels", ylabel="accuracy of ten digits", xscale="log", xticks=n_labels, xticklabels=n_labels)
ax.minorticks_off()
ax.legend(fontsize="small")
plt.show()
