"""
Kernel machines: SVC and Gaussian processes
===========================================

:class:`~sknfk.NFKernel` is the exact kernel, without a choice of rank. It suits few rows: its matrix has as many
entries as there are pairs of them.
"""

import matplotlib.pyplot as plt
import numpy as np
from parity import load_images, trained_net
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF, ConstantKernel
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

from sknfk import NFKernel
from sknfk.inspection import draw_labels

digits = load_images()
model = trained_net(digits)
X_train, X_test = (images.reshape(len(images), -1) for images in (digits.X_train, digits.X_test))
(rows,) = draw_labels(digits.y_train, 10, n_draws=1, random_state=0)
X, y = X_train[rows], digits.y_train[rows]

# %%
# A support vector machine takes the matrix; the pipeline can be cross-validated as it stands. Rows are flat here, as
# the Gaussian process below wants them, and ``input_shape`` says what the model takes.

kernel = NFKernel(model, normalize="l2", input_shape=(1, 8, 8))
svc = make_pipeline(kernel, SVC(kernel="precomputed", C=100)).fit(X, y)
print(f"SVC, Fisher kernel: {svc.score(X_test, digits.y_test):.3f}")
print(f"SVC, RBF of pixels: {SVC(C=100).fit(X, y).score(X_test, digits.y_test):.3f}")

# %%
# A Gaussian process takes a kernel object, here times a constant that its ``fit`` finds. Both processes say how sure
# they are: where that is worth something, the accuracy of those they are surest of is above the rest's.

fisher = clone(kernel).fit(X_train).as_gp_kernel()  # all images shape the statistics, labelled or not
processes = {
    "Fisher kernel": GaussianProcessClassifier(ConstantKernel(10.0) * fisher),
    "RBF of pixels": GaussianProcessClassifier(ConstantKernel(10.0) * RBF(2.0)),
}
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for (name, process), style, colour in zip(processes.items(), ("-", "--"), ("#0072B2", "#D55E00"), strict=True):
    probabilities = process.fit(X, y).predict_proba(X_test)
    surest_first = np.argsort(-probabilities.max(axis=1))
    is_right = process.classes_[probabilities.argmax(axis=1)] == digits.y_test
    kept = np.arange(1, len(is_right) + 1)
    ax.plot(100 * kept / len(kept), np.cumsum(is_right[surest_first]) / kept, style, color=colour, label=name)
    print(f"Gaussian process, {name}: {is_right.mean():.3f}")
ax.set(xlabel="Images answered, the surest first, %", ylabel="Accuracy", xlim=(5, 100))
ax.legend()

# %%
# Here the support vector machine gains by the Fisher kernel, and the Gaussian process loses by it: a kernel that is
# good for one machine need not be for another.
