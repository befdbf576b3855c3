"""
How many components
===================

Columns of one fit nest: the features of rank k are its first k columns. So fit once with many, and look at what a
probe makes of fewer: Figure 7 of the NFK paper, at full size ``python -m benchmarks rank``.
"""

import matplotlib.pyplot as plt
import numpy as np
from parity import load_images, trained_net
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from sknfk import NFKTransformer, TakeComponents
from sknfk.inspection import RankCurveDisplay, draw_labels

digits = load_images()
nfk = NFKTransformer(trained_net(digits), n_components=128, normalize="l2", random_state=0).fit(digits.X_train)
probe = LogisticRegression(C=1000, max_iter=1000)

# %%
# A curve for each number of labels per class, tested on images that were not used before. The bands are one standard
# deviation over five draws of labels.

images = np.concatenate([digits.X_train, digits.X_test])
targets = np.concatenate([digits.y_train, digits.y_test])
test = np.arange(len(digits.X_train), len(images))
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
for n_labels in (3, 10, None):
    draws = draw_labels(digits.y_train, n_labels, n_draws=1 if n_labels is None else 5, random_state=0)
    splits = [(train, test) for train in draws]
    name = f"{n_labels or 'all'} labels per class"
    RankCurveDisplay.from_estimator(nfk, probe, images, targets, cv=splits, ax=ax, name=name)

# %%
# Where a curve is flat, more components gain nothing. They need not harm either: directions of small variance weigh
# little in the probe. In a grid search over the rank, let :class:`~sknfk.TakeComponents` cut, so that the model is not
# differentiated again for every candidate.

Z = nfk.transform(digits.X_train)
pipeline = Pipeline([("rank", TakeComponents()), ("probe", probe)])
search = GridSearchCV(pipeline, {"rank__n_components": [8, 16, 32, 64, 128]}, cv=3).fit(Z, digits.y_train)
print(f"chosen by cross-validation: {search.best_params_['rank__n_components']} components")
