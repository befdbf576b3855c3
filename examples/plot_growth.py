"""
Time against the number of rows
===============================

Figure 3 of the NFK paper, at a reduced size: a fit takes a few passes over the data, so time in proportion to their
number; a Gram matrix takes the square of it. The paper's models are ``python -m benchmarks scaling``.
"""

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from parity import SMALL, load_images, trained_net
from sklearn.decomposition import TruncatedSVD

from sknfk import NFKTransformer

K = 32
sizes = [64, 128] if SMALL else [2**i for i in range(8, 14)]
model = trained_net(load_images())
rng = np.random.default_rng(0)
images = rng.random((max(sizes), 1, 8, 8), dtype=np.float32)  # the time does not depend on what they show


def fit(X):
    return NFKTransformer(model, n_components=K, random_state=0).fit(X)


def gram(vectors):
    """Form all Fisher vectors, multiply each pair, factorise."""
    rows = vectors.rows().numpy()
    return TruncatedSVD(K, random_state=0).fit(rows @ rows.T)


fit(images[: sizes[0]])  # the first fit chooses an engine and warms up
seconds = {"fit": [], "Gram matrix and TruncatedSVD": []}
for n_rows in sizes:
    X = images[:n_rows]
    started = perf_counter()
    vectors = fit(X).operator(X).torch
    fitted = perf_counter()
    gram(vectors)
    seconds["fit"].append(fitted - started)
    seconds["Gram matrix and TruncatedSVD"].append(perf_counter() - fitted)

# %%
# Both axes are logarithmic: a line's slope is the power of N.

figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, own in seconds.items():
    slope = np.polyfit(np.log(sizes[-3:]), np.log(own[-3:]), 1)[0]
    ax.loglog(sizes, own, marker="o", label=name)
    print(f"{name}: {own[-1]:.1f} s for {sizes[-1]:,} rows, N to the power {slope:.2f} over the last sizes")
ax.set(xlabel="Rows", ylabel="Seconds")
ax.legend()

# %%
# Where the lines cross depends on the network and on the machine. The Gram matrix stops where it does not fit in
# memory, and the Fisher vectors of a larger network stop before it.
