"""
The error of each eigenvalue
============================

Figure 3 of the NFK paper, bottom right, at a reduced size: how far each of the leading eigenvalues is from that of an
exact factorisation, beside the share of the trace that they explain. The paper's model and number of images are
``python -m benchmarks eigenvalues``.
"""

import matplotlib.pyplot as plt
import torch
from parity import SMALL, load_images, trained_net

from sknfk import NFKTransformer
from sknfk.solvers import BlockKrylov, Paper

K = 32 if SMALL else 128
digits = load_images()
model = trained_net(digits)
exact = NFKTransformer(model, n_components=K, solver="exact", dtype="float64").fit(digits.X_train)
truth = torch.from_numpy(exact.singular_values_).square()  # (K,)
fitted = NFKTransformer(model, n_components=2, random_state=0).fit(digits.X_train)
operator = fitted.operator(digits.X_train).torch  # the Fisher vectors in float32, a matrix that is never formed

# %%
# The tolerance is of the energy that all K directions together may miss, 1e-3 by default, and not of each eigenvalue.
# Errors that all solvers share are the rounding of the Fisher vectors in float32.

solvers = {
    "krylov, two sweeps": BlockKrylov(tol=0.0, max_sweeps=2),
    "krylov": BlockKrylov(),
    "krylov, tol=1e-5": BlockKrylov(tol=1e-5),
    "paper": Paper(),
}
shown = [1, 8, K // 2, K]
explained = exact.explained_variance_ratio_.cumsum()
print(f"{'component':20}{''.join(f'{k:9}' for k in shown)}")
print(f"{'explained variance':20}{''.join(f'{explained[k - 1]:9.3f}' for k in shown)}")

plt.style.use("tableau-colorblind10")
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(1.6, 1), layout="constrained")
for (name, solver), style in zip(solvers.items(), ("-", "--", "-.", ":"), strict=True):
    result = solver(operator, K, torch.Generator().manual_seed(0))
    errors = (result.singular_values.square() / truth - 1).abs()  # (K,)
    left.semilogy(range(1, K + 1), errors, style, label=f"{name}: {result.n_sweeps} passes")
    print(f"{name:20}{''.join(f'{errors[k - 1]:9.1e}' for k in shown)} of {result.n_sweeps} passes")
left.set(xlabel="Component", ylabel="Relative error of its eigenvalue")
figure.legend(loc="outside lower center", ncols=4, fontsize="small")
right.plot(range(1, K + 1), explained)
right.set(xlabel="Leading components", ylabel="Share of the trace", ylim=(0, 1.02))
