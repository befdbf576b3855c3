"""
Statistics: of the data or of the model
=======================================

Scores are centred and whitened by means over some rows. The definition of the Fisher information takes an expectation
over the model, so rows that the model draws; the data are at hand and need no sampler. A variational autoencoder can
do both.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from parity import N_EPOCHS, load_images, train
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn.functional import softplus

from sknfk import NFKTransformer
from sknfk.inspection import LabelCurveDisplay

digits = load_images()
X_train, X_test = (X.reshape(len(X), -1) for X in (digits.X_train, digits.X_test))


class VAE(nn.Module):
    """Four latent numbers, Bernoulli pixels."""

    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 8))
        self.up = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64))

    def encode(self, x):
        return self.down(x).chunk(2, dim=1)  # mean, log-variance

    def decode(self, h):
        return self.up(h)  # logits


def negative_bound(model, rows):
    x = torch.from_numpy(X_train)[rows]
    mean, log_variance = model.encode(x)
    logits = model.decode(mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean))
    reconstruction = (softplus(logits) - logits * x).sum(1)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return (reconstruction + divergence).mean()


torch.manual_seed(0)
model = train(VAE(), X_train, negative_bound, n_epochs=2 * N_EPOCHS, lr=3e-3)

# %%
# ``mean_shift_`` says how far the data are from what the scores are centred at: nearly nothing for their own mean.

features = {}
for parameters in ("decoder", "encoder"):
    for statistics in ("data", "model"):
        nfk = NFKTransformer(
            model,
            n_components=64,
            density="elbo",
            parameters="decoder" if parameters == "decoder" else ["down.*"],
            statistics=statistics,
            normalize="l2",
            random_state=0,
        ).fit(X_train)
        features[f"{parameters}, {statistics}"] = (nfk.transform(X_train), nfk.transform(X_test))
        print(f"{parameters}, statistics of the {statistics}: mean shift {nfk.mean_shift_:.3f}")
with torch.no_grad():
    features["latent means"] = tuple(model.encode(torch.from_numpy(X))[0].numpy() for X in (X_train, X_test))
features["pixels"] = (X_train, X_test)

# %%
# Accuracy of a probe with ten labels per class, mean and standard deviation over five draws.

probe = LogisticRegression(C=100, max_iter=1000)
display = LabelCurveDisplay.from_features(
    features, probe, digits.y_train, digits.y_test, n_labels=(10,), random_state=0, ax=plt.figure().gca()
)
plt.close()
scores = np.array([display.scores[name][0] for name in features])  # (features, draw)

figure, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
places = np.arange(len(features))[::-1]
ax.errorbar(scores.mean(axis=1), places, xerr=scores.std(axis=1), fmt="o", color="#0072B2", capsize=3)
ax.set_yticks(places, list(features))
ax.set(xlabel="Accuracy, 10 labels per class")
ax.grid(axis="x", alpha=0.3)
for name, own in zip(features, scores, strict=True):
    print(f"{name:16} {own.mean():.3f} ± {own.std():.3f}")

# %%
# Statistics of the model do a little better here than those of the data. The latent means, four numbers, are as good
# as the best of these features, and the pixels are better than all of them: this autoencoder knows less than its
# input says.
