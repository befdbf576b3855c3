"""
What each option is worth
=========================

One option changed at a time: what it does to the spectrum, and to a probe with ten labels per class. The paper has no
such table; on its kind of models ours is ``python -m benchmarks ablations``.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from parity import SMALL, load_images, trained_net
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from sknfk import NFKTransformer
from sknfk.inspection import draw_labels

K = 32 if SMALL else 64
digits = load_images()
model = trained_net(digits)
probe = LogisticRegression(C=1000, max_iter=1000)
draws = draw_labels(digits.y_train, 10, n_draws=5, random_state=0)
variations = {
    "defaults": {},
    "fisher='factored'": {"fisher": "factored"},
    "fisher='identity'": {"fisher": "identity"},
    "damping=0": {"damping": 0.0},
    "damping=0.1": {"damping": 0.1},
    "center=False": {"center": False},
    "max_sweeps=1": {"solver": "krylov", "tol": 0.0, "max_sweeps": 1},
    "max_sweeps=4": {"solver": "krylov", "tol": 0.0, "max_sweeps": 4},
}


def measured(options):
    """Share of the variance in all components, and accuracy of a probe for each draw of labels."""
    nfk = NFKTransformer(model, n_components=K, normalize="l2", random_state=0).set_params(**options)
    with warnings.catch_warnings():  # tol=0 is out of reach: it asks for every sweep
        warnings.simplefilter("ignore", ConvergenceWarning)
        nfk.fit(digits.X_train)
    Z, Z_test = nfk.transform(digits.X_train), nfk.transform(digits.X_test)
    scores = [probe.fit(Z[own], digits.y_train[own]).score(Z_test, digits.y_test) for own in draws]
    return nfk.explained_variance_ratio_.sum(), np.array(scores)


found = {name: measured(options) for name, options in variations.items()}

# %%
# Draws are the same for all, so differences are paired: mean and standard deviation over five of them.

plain = found["defaults"][1]
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
places = np.arange(len(found))[::-1]
left.barh(places, [share for share, _ in found.values()], color="#0072B2")
gains = np.array([100 * (scores - plain) for _, scores in found.values()])  # (variation, draw)
right.errorbar(gains.mean(1), places, xerr=gains.std(1), fmt="o", color="#0072B2", capsize=3)
right.axvline(0, color="grey", linewidth=1)
left.set_yticks(places, list(found))
left.set(xlabel=f"Share of the variance in {K}")
right.set(xlabel="Accuracy against the defaults, points")
for (name, (share, scores)), gain in zip(found.items(), gains, strict=True):
    print(f"{name:18} share {share:.3f}, accuracy {scores.mean():.3f}, {gain.mean():+.1f} points")

# %%
# An option whose bar crosses zero is not told from the defaults by these draws. The two columns need not agree: more of
# the variance is not more of what the probe asks for.
