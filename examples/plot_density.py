"""
Which number to differentiate
=============================

``density`` says which number of the model is taken for a log-density. For a classifier that is the free energy of its
logits; but one logit may be differentiated too, or the length of a hidden layer's activations.
"""

import matplotlib.pyplot as plt
import numpy as np
from parity import load_images, trained_net
from sklearn.linear_model import LogisticRegression

from sknfk import NFKTransformer
from sknfk.densities import Classifier, Embedding, Logit
from sknfk.inspection import LabelCurveDisplay

digits = load_images()
model = trained_net(digits)
answers = {
    "free energy (auto)": (model, Classifier()),
    "largest logit": (model, Logit("argmax")),
    "sum of the logits": (model, Logit("sum")),
    "logit of 'odd'": (model, Logit(1)),
    "length of last layer": (model[:9], Embedding()),
    "length of conv. layer": (model[:7], Embedding()),
}
features = {}
for name, (network, density) in answers.items():
    nfk = NFKTransformer(network, n_components=64, density=density, normalize="l2", random_state=0)
    features[name] = (nfk.fit_transform(digits.X_train), nfk.transform(digits.X_test))

# %%
# Accuracy of a probe with ten labels per class, mean and standard deviation over five draws.

probe = LogisticRegression(C=1000, max_iter=1000)
display = LabelCurveDisplay.from_features(
    features, probe, digits.y_train, digits.y_test, n_labels=(10,), random_state=0, ax=plt.figure().gca()
)
plt.close()
scores = np.array([display.scores[name][0] for name in answers])  # (density, draw)

figure, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
places = np.arange(len(answers))[::-1]
ax.errorbar(scores.mean(axis=1), places, xerr=scores.std(axis=1), fmt="o", color="#0072B2", capsize=3)
ax.set_yticks(places, list(answers))
ax.set(xlabel="Accuracy, 10 labels per class")
ax.grid(axis="x", alpha=0.3)
for name, own in zip(answers, scores, strict=True):
    print(f"{name:22} {own.mean():.3f} ± {own.std():.3f}")

# %%
# All but the sum of the logits, which this network was never trained to give a meaning, agree within the spread of
# the draws. Start with ``"auto"``; an :class:`~sknfk.densities.Embedding` serves backbones that have no logits, and on
# data far from those that a classifier was trained on it may be much better: :doc:`/evidence`.
