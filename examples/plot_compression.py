"""
From the whole Fisher vector to a few components
================================================

Table 1 of the NFK paper, at a reduced size: a linear classifier on a discriminator's activations, on some components
of its Fisher vectors, and on all 25,000 of their entries. The models and images of the paper's kind are
``python -m benchmarks table1``.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from parity import load_images
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from small_gan import signed, trained_gan

from sknfk import NFKTransformer
from sknfk.densities import Discriminator
from sknfk.inspection import LabelCurveDisplay

digits = load_images()
splits = X_train, X_test = signed(digits.X_train), signed(digits.X_test)
D, G = trained_gan(X_train)
nfk = NFKTransformer(D, n_components=128, density=Discriminator(G), random_state=0).fit(X_train)

# %%
# The whole vectors are formed here only because the network is small. The embedding's columns nest: 32 of them are
# the embedding of rank 32.

with torch.no_grad():
    activations = [D[:4](torch.from_numpy(X)).numpy() for X in splits]
embedding = [nfk.transform(X) for X in splits]
features = {
    "Fisher vector": [nfk.operator(X).torch.rows().numpy() for X in splits],
    **{f"NFK-{k}": [rows[:, :k] for rows in embedding] for k in (32, 128)},
    "activations": activations,
    "pixels": splits,
}

# %%
# One classifier, whose penalty is chosen on the labelled rows. The bands are one standard deviation over five draws
# of labels.

figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
display = LabelCurveDisplay.from_features(
    features,
    make_pipeline(Normalizer(), RidgeClassifierCV(np.logspace(-4, 2, 7))),
    digits.y_train,
    digits.y_test,
    n_labels=(3, 10, None),
    random_state=0,
    ax=ax,
)
for name, scores in display.scores.items():
    width = features[name][0].shape[1]
    print(f"{name} ({width:,}): {', '.join(f'{mean:.3f}' for mean in scores.mean(axis=1))} with 3, 10, all a class")

# %%
# The whole vector against its components says what the compression costs, with few labels and with all. The activations
# are 128 numbers as well: what 128 components have beyond them comes from the gradients.
