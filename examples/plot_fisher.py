"""
Whitening: diagonal, factored, or none
======================================

``fisher`` says how gradients are scaled before their inner products are taken: each parameter by its own information
(``"diag"``, the default and the paper's choice), by a rank-one approximation of it for each layer (``"factored"``),
or not at all (``"identity"``, the neural tangent kernel's choice).
"""

import matplotlib.pyplot as plt
from parity import load_images, trained_net
from sklearn.linear_model import LogisticRegression

from sknfk import NFKTransformer
from sknfk.inspection import LabelCurveDisplay, SpectrumDisplay

digits = load_images()
model = trained_net(digits)
fitted, features = {}, {}
for fisher in ("diag", "factored", "identity"):
    nfk = NFKTransformer(model, n_components=64, fisher=fisher, normalize="l2", random_state=0)
    features[fisher] = (nfk.fit_transform(digits.X_train), nfk.transform(digits.X_test))
    fitted[fisher] = nfk

# %%
# Without whitening a few parameters with large gradients make up most of the kernel, and few components hold all of
# it. Which scaling serves a probe better is another question. The bands are one standard deviation over five draws of
# labels.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
first, *others = fitted
SpectrumDisplay.from_estimator(fitted[first], reference={name: fitted[name] for name in others}, name=first, ax=left)
display = LabelCurveDisplay.from_features(
    features,
    LogisticRegression(C=1000, max_iter=1000),
    digits.y_train,
    digits.y_test,
    n_labels=(1, 3, 10),
    random_state=0,
    ax=right,
)
for name, scores in display.scores.items():
    print(f"{name}: {', '.join(f'{mean:.3f}' for mean in scores.mean(axis=1))} at 1, 3 and 10 labels per class")

# %%
# The three agree within the spread of the draws. ``"identity"`` needs fewer components for the same share of the
# trace.
