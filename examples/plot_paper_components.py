"""
What a component looks for
==========================

Figure 6 of the paper, at a reduced size: the images with the largest projections on each component. The model is a
classifier of scikit-learn's digits in place of the paper's GAN of faces.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import NFKTransformer
from sknfk.inspection import ComponentExamplesDisplay

pixels, digits = load_digits(return_X_y=True)
X = (pixels / 16).astype(np.float32)

torch.manual_seed(0)
net = NeuralNetClassifier(
    nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)),
    criterion=nn.CrossEntropyLoss,
    optimizer=torch.optim.Adam,
    lr=1e-3,
    max_epochs=20,
    train_split=None,
    verbose=0,
).fit(X, digits)

nfk = NFKTransformer(net.module_, 10, density="classifier", random_state=0).fit(X)
display = ComponentExamplesDisplay.from_estimator(nfk, X, images=X.reshape(-1, 8, 8), n_components=10)

# %%
# How many of a component's images are of one digit? The digits were labels of the model's training; which of them a
# component takes together was not.
purity = [np.bincount(digits[rows]).max() / len(rows) for rows in display.rows_]
print(f"mean share of the most frequent digit among a component's 8 images {np.mean(purity):.2f}")

plt.show()
