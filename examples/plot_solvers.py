"""
Solvers: passes against error
=============================

What a fit costs is passes over the data. This is how much of the leading components' energy each solver has missed
after how many of them, against the exact answer; :ref:`sphx_glr_auto_examples_plot_eigenvalues.py` has the error of
each eigenvalue.
"""

import matplotlib.pyplot as plt
import torch
from parity import SMALL, load_images, trained_net

from sknfk import NFKTransformer
from sknfk.solvers import BlockKrylov, Exact, Paper, SubspaceIteration

K = 16 if SMALL else 64
TOL = 1e-3  # the default
digits = load_images()
fitted = NFKTransformer(trained_net(digits), n_components=2, random_state=0).fit(digits.X_train)
operator = fitted.operator(digits.X_train).torch  # the Fisher vectors as a matrix that is never formed


def generator():
    return torch.Generator().manual_seed(0)


best = Exact()(operator, K, generator()).singular_values.square().sum()


def lost(result):
    """Share of the leading K eigenvalues' sum outside the subspace found."""
    held = operator.matmat(result.components.T).double().square().sum()
    return max(float(1 - held / best), 1e-7)  # below that it is float32's rounding


# %%
# ``krylov`` keeps all blocks that it has seen, ``subspace`` the last one alone, which takes less memory. The cross is
# where each stops by itself at the default tolerance, on its own estimate of the error.

plt.style.use("tableau-colorblind10")
figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, solver, style in (
    ("krylov", BlockKrylov(tol=0.0), "o-"),
    ("subspace", SubspaceIteration(tol=0.0), "s--"),
):
    found = [solver.finish(state, K, generator()) for state in solver.states(operator, K, generator())]
    errors = [lost(result) for result in found]
    sweeps = [result.n_sweeps for result in found]
    (line,) = ax.semilogy(sweeps, errors, style, label=name)
    stop = next(n for n, result in enumerate(found) if result.error_estimate <= TOL)
    ax.plot(sweeps[stop], errors[stop], "x", markersize=12, markeredgewidth=2, color=line.get_color())
    estimate = found[stop].error_estimate
    print(f"{name}: stops after {sweeps[stop]} sweeps, estimates {estimate:.1e}, has lost {errors[stop]:.1e}")

paper = Paper()(operator, K, generator())
ax.axhline(lost(paper), linestyle=":", color="black", label=f"paper, after {paper.n_sweeps} products")
ax.set(xlabel="Passes over the data", ylabel="Share of the energy lost")
ax.legend()

# %%
# The paper's algorithm multiplies twice in each of its iterations, and one column at a time where gradients are not
# formed: its passes are not comparable, and :doc:`/benchmarks` times them.
