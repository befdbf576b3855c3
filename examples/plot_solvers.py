"""
Solvers: passes against error
=============================

What a fit costs is passes over the data. This is how much of the leading components' energy each solver has missed
after how many of them, against the exact answer.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from parity import SMALL, load_images, trained_net

from sknfk import NFKTransformer
from sknfk.solvers import BlockKrylov, Exact, Paper, SubspaceIteration

K = 16 if SMALL else 64
digits = load_images()
fitted = NFKTransformer(trained_net(digits), n_components=2, random_state=0).fit(digits.X_train)
operator = fitted.operator(digits.X_train).torch  # the Fisher vectors as a matrix that is never formed


def solve(solver):
    return solver(operator, K, torch.Generator().manual_seed(0))


best = solve(Exact()).singular_values.square().sum()


def lost(result):
    """Share of the leading K eigenvalues' sum outside the subspace found."""
    held = operator.matmat(result.components.T).double().square().sum()
    return max(float(1 - held / best), 1e-7)  # below that it is float32's rounding


# %%
# ``krylov`` keeps all blocks that it has seen, ``subspace`` the last one alone, which takes less memory and more
# passes. The cross is where each stops by itself at the default ``tol=1e-3``, on its own estimate of the error.

plt.style.use("tableau-colorblind10")
figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, make, most, style in (
    ("krylov", BlockKrylov, 6, "o-"),
    ("subspace", SubspaceIteration, 12, "s--"),
):
    sweeps = np.arange(2, most + 1)
    errors = [lost(solve(make(tol=0.0, max_sweeps=int(n)))) for n in sweeps]
    (line,) = ax.semilogy(sweeps, errors, style, label=name)
    stopped = solve(make(tol=1e-3))
    ax.plot(stopped.n_sweeps, lost(stopped), "x", markersize=12, markeredgewidth=2, color=line.get_color())
    print(f"{name}: stops after {stopped.n_sweeps} sweeps; estimated {stopped.error_estimate:.1e}, {lost(stopped):.1e}")

paper = solve(Paper())
ax.axhline(lost(paper), linestyle=":", color="black", label=f"paper, after {paper.n_sweeps} products")
ax.set(xlabel="Passes over the data", ylabel="Share of the energy lost")
ax.legend()

# %%
# The paper's algorithm multiplies twice in each of its iterations, and one column at a time where gradients are not
# formed: its passes are not comparable, and :doc:`/benchmarks` times them.
