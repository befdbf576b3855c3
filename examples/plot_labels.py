"""
Accuracy against the number of labels
=====================================

When do Fisher kernel features pay? All features here are of one network, which was trained on odd or even and is
asked for the digit; the probe and the draws of labels are the same for all.
"""

import matplotlib.pyplot as plt
import numpy as np
from parity import activations, load_images, trained_net
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, normalize

from sknfk import NFKTransformer
from sknfk.inspection import LabelCurveDisplay

digits = load_images()
model = trained_net(digits)
nfk = NFKTransformer(model, n_components=64, random_state=0)
splits = (digits.X_train, digits.X_test)
features = {
    "NFK-64": (nfk.fit_transform(digits.X_train), nfk.transform(digits.X_test)),
    "last layer": tuple(activations(model[:9], X) for X in splits),
    "convolutional layer": tuple(activations(model[:7], X) for X in splits),
    "pixels": tuple(X.reshape(len(X), -1) for X in splits),
}
features["convolutional + NFK"] = tuple(
    np.hstack([normalize(ours), normalize(theirs)])
    for ours, theirs in zip(features["NFK-64"], features["convolutional layer"], strict=True)
)

# %%
# The bands are one standard deviation over five draws of labels.

figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
display = LabelCurveDisplay.from_features(
    features,
    make_pipeline(Normalizer(), LogisticRegression(C=1000, max_iter=1000)),
    digits.y_train,
    digits.y_test,
    n_labels=(1, 3, 10, None),
    random_state=0,
    ax=ax,
)
for name, scores in display.scores.items():
    print(f"{name:20} {'  '.join(f'{mean:.3f}' for mean in scores.mean(axis=1))}")

# %%
# Fisher kernel features are far ahead of the last layer. With few labels they are level with the convolutional layer
# or ahead by about the spread of the draws; with all labels that layer is better. With one label per class nothing
# stands out from the pixels. Whether your model and task look like this, only such a comparison can say.
