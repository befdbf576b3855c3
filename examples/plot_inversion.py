"""
From images back to latent variables
====================================

Figure 4 of the NFK paper, at a reduced size: a GAN's latent variable h is read from its image G(h) by linear least
squares on the discriminator's Fisher vectors; then real images go to h and through G. The paper shows pictures of
faces; this is a small GAN of scikit-learn's digits, with numbers beside the pictures, and with what as many principal
components give, of pixels and of the discriminator's activations. The full size is ``python -m benchmarks inversion``.
"""

# %%
# A small GAN
# -----------
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from parity import activations, load_images
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from small_gan import N_LATENT, generated, signed, trained_gan

from sknfk import NFKTransformer
from sknfk.densities import Discriminator

digits = load_images()
X, X_test, y, y_test = signed(digits.X_train), signed(digits.X_test), digits.y_train, digits.y_test
D, G = trained_gan(X)

# %%
# From G(h) to h
# --------------
h, h_test = np.split(np.random.default_rng(0).standard_normal((4_500, N_LATENT)), [4_000])
images, images_test = generated(G, h), generated(G, h_test)
features = {
    "NFK": NFKTransformer(D, 32, density=Discriminator(G), random_state=0),
    "PCA of pixels": PCA(32, random_state=0),
    "PCA of activations": make_pipeline(FunctionTransformer(partial(activations, D[:4])), PCA(32, random_state=0)),
}
inverses = {
    name: make_pipeline(transformer, StandardScaler(), RidgeCV(np.logspace(-3, 3, 7))).fit(images, h)
    for name, transformer in features.items()
}
for name, inverse in inverses.items():
    r2 = r2_score(h_test, inverse.predict(images_test))
    print(f"{name}: R2 of h on other images of the generator {r2:.3f}")

# %%
# Real images
# -----------
# To h and through G; without a model, 32 principal components of the generator's images decode them.
pca = inverses["PCA of pixels"][0]
shown = {
    "images": X_test,
    **{f"{name} to G": generated(G, inverse.predict(X_test)) for name, inverse in inverses.items()},
    "PCA decoding": pca.inverse_transform(pca.transform(X_test)),
}
reader = LogisticRegression(C=0.1, max_iter=2000).fit(X, y)
for name, found in shown.items():
    agreement, error = reader.score(found, y_test), np.square(found - X_test).mean()
    print(f"{name}: pixel error {error:.3f}, read as their digit {agreement:.3f}")

figure, axes = plt.subplots(len(shown), 8, figsize=(7, 4.4), layout="constrained")
for row, (name, found) in zip(axes, shown.items(), strict=True):
    row[0].set_title(name, fontsize="small", loc="left")
    for ax, image in zip(row, found, strict=False):
        ax.imshow(image.reshape(8, 8), cmap="gray", vmin=-1, vmax=1)
        ax.set_axis_off()

plt.show()
