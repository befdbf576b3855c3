"""
Engines: what a pass costs
==========================

An engine turns a batch of examples into their gradients. All give the same numbers. ``layerwise`` needs rules for the
model's layers and holds gradients as factors where that is cheaper; ``vmap`` and ``loop`` serve what the rules do not
know.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from parity import SMALL, load_images, trained_net
from torch import nn

from sknfk import NFKTransformer

digits = load_images()
networks = {
    "convolutional": trained_net(digits),
    "fully connected": nn.Sequential(
        nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
    ),
}
X = digits.X_train[: 32 if SMALL else 256]


def seconds(nfk):
    """One pass: the median of three."""
    found = []
    for _ in range(3):
        start = time.perf_counter()
        nfk.transform(X)
        found.append(time.perf_counter() - start)
    return float(np.median(found))


engines = ("layerwise", "vmap", "loop")
measured, embeddings = {}, {}
for name, network in networks.items():
    for engine in engines:
        nfk = NFKTransformer(network, n_components=16, engine=engine, random_state=0).fit(X)
        measured[name, engine] = seconds(nfk)
        embeddings[name, engine] = nfk.transform(X)

# %%
# Seconds for one ``transform`` of 256 images on the machine that built this page. On the small convolutional network
# the first two are close; ``engine="auto"`` chooses by what a pass of each is predicted to cost.

figure, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
for place, name in enumerate(networks):
    for number, engine in enumerate(engines):
        height = place - 0.26 * (number - 1)
        ax.barh(height, measured[name, engine], 0.24, color="#0072B2")
        ax.annotate(
            f"{engine}, {measured[name, engine]:.3f} s",
            (measured[name, engine], height),
            (4, 0),
            textcoords="offset points",
            va="center",
        )
ax.set_yticks(range(len(networks)), list(networks))
ax.set(xlabel="Seconds", xlim=(0, 1.35 * max(measured.values())))

# %%
# They agree: relative distance of the embeddings' kernels.

for name in networks:
    first, *others = (embeddings[name, engine] @ embeddings[name, engine].T for engine in engines)
    for engine, other in zip(engines[1:], others, strict=True):
        print(f"{name}: layerwise and {engine} differ by {np.linalg.norm(first - other) / np.linalg.norm(first):.1e}")
