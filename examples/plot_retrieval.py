"""
Neighbours and influence
========================

A network that was trained to tell odd from even digits is asked for images of the same digit: by the angle between
Fisher vectors, between activations, and between pixels. Then a probe on its embedding is asked which training images
speak for and against one of its answers.
"""

# %%
# A network of another task
# -------------------------
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import label_ranking_average_precision_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import NFKernel, NFKTransformer
from sknfk.inspection import NeighborsDisplay, logistic_influence

pixels, digits = load_digits(return_X_y=True)
X, X_query, y, y_query = train_test_split((pixels / 16).astype(np.float32), digits, test_size=300, random_state=0)

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
# Mean average precision
# ----------------------
# With the rows that are searched as labels, scikit-learn's ranking precision is the mean average precision.
kernel = NFKernel(parity.module_, normalize="l2", random_state=0).fit(X)
nfk = NFKTransformer(parity.module_, 32, normalize="l2", random_state=0).fit(X)
Z, Z_query = nfk.transform(X), nfk.transform(X_query)
with torch.no_grad():
    hidden, hidden_query = (parity.module_[:2](torch.from_numpy(rows)).numpy() for rows in (X, X_query))
similarities = {
    "Fisher kernel": kernel.transform(X_query),
    "Fisher kernel, 32 components": Z_query @ Z.T,
    "activations": cosine_similarity(hidden_query, hidden),
    "pixels": cosine_similarity(X_query, X),
}
relevant = y_query[:, None] == y
for name, similarity in similarities.items():
    print(f"{name}: mean average precision {label_ranking_average_precision_score(relevant, similarity):.3f}")

NeighborsDisplay.from_embeddings(
    Z_query[:5], Z, X_query[:5].reshape(-1, 8, 8), X.reshape(-1, 8, 8), query_labels=y_query[:5], labels=y
)

# %%
# What speaks for an answer
# -------------------------
# Influence is the change of a test row's margin if a training row is removed. The most negative ones spoke for the
# answer, the largest against it. The test image is one that the probe reads right, and is least sure of.
probe = LogisticRegression(C=10, tol=1e-8, max_iter=10_000).fit(Z, y)
influence = logistic_influence(probe, Z, y, Z_query, y_query)  # (queries, training rows)
p = probe.predict_proba(Z_query)
least_sure = int(np.argmin(np.where(probe.predict(Z_query) == y_query, p.max(1), 1)))
order = np.argsort(influence[least_sure])
shown = {"asked": [], "for": order[:6], "against": order[:-7:-1]}

figure, axes = plt.subplots(3, 6, figsize=(5, 3), layout="constrained")
for row, (name, found) in zip(axes, shown.items(), strict=True):
    row[0].set_ylabel(name)
    for ax, image in zip(row, X[found] if len(found) else X_query[least_sure][None], strict=False):
        ax.imshow(image.reshape(8, 8), cmap="gray")
    for ax in row:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)

without = np.delete(np.arange(len(X)), order[:50])
refitted = LogisticRegression(C=10, tol=1e-8, max_iter=10_000).fit(Z[without], y[without])
after = refitted.predict_proba(Z_query[[least_sure]])[0, y_query[least_sure]]
print(
    f"probability of its class {p[least_sure].max():.2f}, and {after:.2f} without the 50 images that spoke most for it"
)

plt.show()
