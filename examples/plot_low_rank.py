"""
Training towards activations of low rank
========================================

A network is trained twice on handwritten digits, from the same weights: plainly, and with
:class:`~sknfk.LowRankCallback`, which draws the activations of its last hidden layer towards five directions. The
curves say how much of the variance lies in the leading components, of activations and of Fisher vectors.
"""

# %%
# Two networks, from the same weights
# -----------------------------------
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import LowRankCallback, NFKernel
from sknfk.inspection import effective_rank, layer_spectra, variance_share

images, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split((images / 16).astype(np.float32), y, test_size=600, random_state=0)


def trained(callbacks):
    torch.manual_seed(0)
    net = NeuralNetClassifier(
        nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=64,
        max_epochs=30,
        train_split=None,
        callbacks=callbacks,
        verbose=0,
    )
    return net.fit(X, y)


nets = {"plain": trained([]), "low rank": trained([LowRankCallback("3", rank=5, norm_weight=0.1)])}

# %%
# How many directions are filled
# ------------------------------
# Layer "3" is the output of the second ReLU. The Fisher vectors are those of all parameters.
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
for name, net in nets.items():
    kernel = NFKernel(net.module_, density="classifier", random_state=0).fit(X_test)
    spectra = layer_spectra(net.module_, X_test, "3", kernel=kernel)
    print(f"{name}: accuracy {net.score(X_test, y_test):.3f}")
    for ax, (where, s) in zip(axes, spectra.items(), strict=True):
        print(f"  {where}: effective rank {effective_rank(s):.1f}, share of 5 components {variance_share(s, 5):.3f}")
        ax.plot(np.arange(1, 31), [variance_share(s, r) for r in range(1, 31)], label=name)
        ax.set(xlabel="Components", title=f"Activations of layer {where}" if where == "3" else where)
axes[0].set_ylabel("Share of the variance")
axes[0].legend()

# %%
# A classifier on few components
# ------------------------------
# What is gained: a linear classifier on a few principal components of the activations.
for name, net in nets.items():
    body = net.module_[:4].eval()
    with torch.no_grad():
        known, known_test = (body(torch.from_numpy(rows)).numpy() for rows in (X, X_test))
    for r in (3, 5, 10):
        probe = make_pipeline(PCA(r, random_state=0), LogisticRegression(max_iter=2000)).fit(known, y)
        print(f"{name}: {r} components, accuracy {probe.score(known_test, y_test):.3f}")

plt.show()
