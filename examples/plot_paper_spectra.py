"""
How fast a kernel's spectrum falls
==================================

Figures 2 and 5 of the paper, at a reduced size: the share of the Fisher kernel's trace in its leading components, for a
small network before and after training, with the Fisher information and without it (``fisher="identity"``, the
empirical tangent kernel). The paper draws an MLP, LeNet-5 and a GAN on MNIST; this is an MLP on scikit-learn's digits.
The full size is ``python -m benchmarks spectra``.
"""

# %%
# One logit for odd or even
# -------------------------
import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetBinaryClassifier
from torch import nn

from sknfk import NFKTransformer
from sknfk.inspection import SpectrumDisplay

pixels, digits = load_digits(return_X_y=True)
X = (pixels / 16).astype(np.float32)

torch.manual_seed(0)
untrained = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
net = NeuralNetBinaryClassifier(
    copy.deepcopy(untrained),
    optimizer=torch.optim.Adam,
    lr=1e-3,
    batch_size=64,
    max_epochs=30,
    train_split=None,
    verbose=0,
).fit(X, (digits % 2).astype(np.float32))
print(f"accuracy on its own rows {net.score(X, digits % 2):.3f}")

# %%
# Four spectra
# ------------
models = {"trained": net.module_, "untrained": untrained}
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True, layout="constrained")
for ax, (fisher, title) in zip(axes, {"diag": "with the Fisher", "identity": "without"}.items(), strict=True):
    fits = {
        name: NFKTransformer(model, 100, density="classifier", fisher=fisher, random_state=0).fit(X)
        for name, model in models.items()
    }
    for name, nfk in fits.items():
        shares = np.cumsum(nfk.explained_variance_ratio_)
        print(f"{name}, {title}: 10 components {shares[9]:.3f}, 100 components {shares[99]:.3f}")
    SpectrumDisplay.from_estimator(fits["trained"], name="trained", reference={"untrained": fits["untrained"]}, ax=ax)
    ax.set_title(title)

plt.show()
