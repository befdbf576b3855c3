"""
From images back to latent variables
====================================

Figure 4 of the NFK paper, at a reduced size: a GAN's latent variable h is read from its image G(h) by linear least
squares on the discriminator's Fisher vectors; then real images go to h and through G. The paper shows pictures of
faces; this is a small GAN of scikit-learn's digits, with numbers beside the pictures, and with what plain principal
components give. The full size is ``python -m benchmarks inversion``.
"""

# %%
# A small GAN
# -----------
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.functional import softplus

from sknfk import NFKTransformer
from sknfk.densities import Discriminator

pixels, digits = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split((pixels / 8 - 1).astype(np.float32), digits, test_size=300, random_state=0)

torch.manual_seed(0)
D = nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Linear(128, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))
G = nn.Sequential(nn.Linear(10, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh())
adam_D, adam_G = (torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.5, 0.999)) for net in (D, G))
for _ in range(2_000):
    real, fake = torch.from_numpy(X)[torch.randint(0, len(X), (128,))], G(torch.randn(128, 10))
    adam_D.zero_grad()
    (softplus(-D(real)) + softplus(D(fake.detach()))).mean().backward()
    adam_D.step()
    adam_G.zero_grad()
    softplus(-D(fake)).mean().backward()
    adam_G.step()


def generated(h):
    with torch.no_grad():
        return G(torch.as_tensor(h, dtype=torch.float32)).numpy()


# %%
# From G(h) to h
# --------------
h, h_test = np.split(np.random.default_rng(0).standard_normal((4_500, 10)), [4_000])
features = {
    "NFK": NFKTransformer(D, 32, density=Discriminator(G), random_state=0),
    "PCA": PCA(32, random_state=0),
}
inverses = {
    name: make_pipeline(transformer, StandardScaler(), RidgeCV(np.logspace(-3, 3, 7))).fit(generated(h), h)
    for name, transformer in features.items()
}
for name, inverse in inverses.items():
    r2 = r2_score(h_test, inverse.predict(generated(h_test)))
    print(f"{name}: R2 of h on other images of the generator {r2:.3f}")

# %%
# Real images
# -----------
# To h and through G; without a model, 32 principal components of the generator's images decode them.
pca = inverses["PCA"][0]
shown = {
    "images": X_test,
    **{f"{name} to G": generated(inverse.predict(X_test)) for name, inverse in inverses.items()},
    "PCA decoding": pca.inverse_transform(pca.transform(X_test)),
}
reader = LogisticRegression(C=0.1, max_iter=2000).fit(X, y)
for name, found in shown.items():
    agreement, error = reader.score(found, y_test), np.square(found - X_test).mean()
    print(f"{name}: pixel error {error:.3f}, read as their digit {agreement:.3f}")

figure, axes = plt.subplots(len(shown), 8, figsize=(7, 3.6), layout="constrained")
for row, (name, found) in zip(axes, shown.items(), strict=True):
    row[0].set_title(name, fontsize="small", loc="left")
    for ax, image in zip(row, found, strict=False):
        ax.imshow(image.reshape(8, 8), cmap="gray", vmin=-1, vmax=1)
        ax.set_axis_off()

plt.show()
