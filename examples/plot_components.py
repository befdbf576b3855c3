"""
What the components look at
===========================

The examples with the largest projections on a component show what it stands for: Figure 6 of the NFK paper, for the
discriminator of a small GAN, which has seen no labels. The full size, in numbers, is
``python -m benchmarks components``.
"""

import numpy as np
from parity import load_images
from small_gan import signed, trained_gan

from sknfk import NFKTransformer
from sknfk.densities import Discriminator
from sknfk.inspection import ComponentExamplesDisplay

digits = load_images()
X, X_test = signed(digits.X_train), signed(digits.X_test)
D, G = trained_gan(X)
nfk = NFKTransformer(D, n_components=8, density=Discriminator(G), random_state=0).fit(X)

# %%
# A row is a component, from the one with the largest share of the trace on. It may show one digit, a way of writing,
# or no more than dark ink.

display = ComponentExamplesDisplay.from_estimator(
    nfk, X_test, images=digits.X_test, n_components=8, n_examples=10, cmap="gray_r"
)

# %%
# How pure are the rows? Of the ten images, so many show the digit that is commonest among them, and so many of ten
# images at random:


def commonest(rows):
    """The commonest digit of these test images, and how many show it."""
    counts = np.bincount(digits.y_test[rows])
    return counts.argmax(), counts.max()


for component, rows in enumerate(display.rows_, start=1):
    digit, count = commonest(rows)
    print(f"component {component}: {count} of {len(rows)} are a {digit}")
rng = np.random.default_rng(0)
at_random = [commonest(rng.choice(len(X_test), 10, replace=False))[1] for _ in range(1_000)]
print(f"at random: {np.mean(at_random):.1f} of 10")

# %%
# A component's sign has no meaning, so its other end is as good. It need not show the opposite of anything.

display = ComponentExamplesDisplay.from_estimator(
    nfk, X_test, images=digits.X_test, n_components=4, n_examples=10, sign=-1, cmap="gray_r"
)
