"""
What training does to the spectrum
==================================

The spectrum of the Fisher kernel says how many directions a model needs to tell its examples apart. Figures 2 and 5 of
the NFK paper draw it for classifiers with one logit and for a GAN's discriminator, trained against untrained, with and
without the division by the Fisher information. Here both networks are small, and the classifier learns odd against
even digits; the full size is ``python -m benchmarks spectra``.
"""

import matplotlib.pyplot as plt
import torch
from parity import load_images, train, untrained_net
from small_gan import signed, trained_gan, untrained_gan
from torch import nn

from sknfk import NFKTransformer
from sknfk.densities import Discriminator
from sknfk.inspection import SpectrumDisplay

digits = load_images()
images, is_odd = torch.from_numpy(digits.X_train), torch.from_numpy(digits.y_train % 2).float()
X = signed(digits.X_train)  # as the GAN reads them


def untrained_classifier():
    return nn.Sequential(*untrained_net()[:-1], nn.Linear(64, 1))


def loss(net, rows):
    return nn.functional.binary_cross_entropy_with_logits(net(images[rows]).flatten(), is_odd[rows])


classifiers = {"trained": train(untrained_classifier(), digits.X_train, loss), "untrained": untrained_classifier()}
gans = {"trained": trained_gan(X), "untrained": untrained_gan()}

# %%
# The untrained networks have the weights that training began with. ``fisher="identity"`` leaves the division out: the
# kernel is then the empirical tangent kernel. A GAN's statistics are those of its generator's samples, as in the
# paper, or of the data.


def fitted(model, statistics, state, fisher):
    options = {"n_components": 64, "fisher": fisher, "statistics": statistics, "random_state": 0}
    if model == "classifier":
        return NFKTransformer(classifiers[state], density="classifier", **options).fit(digits.X_train)
    D, G = gans[state]
    return NFKTransformer(D, density=Discriminator(G), **options).fit(X)


# %%
# Drawn is the share of the kernel's trace that the leading components hold; ``kind="eigenvalues"`` draws the
# eigenvalues themselves. Any fitted transformers can stand beside another as ``reference``; scikit-learn's PCA serves
# too.

figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), sharey=True, layout="constrained")
panels = [("classifier", "data"), ("discriminator", "model"), ("discriminator", "data")]
for ax, (model, statistics) in zip(axes, panels, strict=True):
    title = f"{model}, statistics of the {statistics}"
    spectra = {
        f"{state}, {fisher}": fitted(model, statistics, state, fisher)
        for state in ("trained", "untrained")
        for fisher in ("diag", "identity")
    }
    first, *others = spectra
    reference = {name: spectra[name] for name in others}
    SpectrumDisplay.from_estimator(spectra[first], name=first, reference=reference, ax=ax)
    ax.set_title(title, fontsize="medium")
    print(f"{title}: share of the trace in 1, 8 and 64 components, and mean shift")
    for name, nfk in spectra.items():
        shares = nfk.explained_variance_ratio_.cumsum()[[0, 7, 63]]
        print(f"  {name:20} {'  '.join(f'{share:.3f}' for share in shares)}  {nfk.mean_shift_:.2f}")

# %%
# Training makes the classifier's spectrum steeper, with the division and without it. For the discriminator it matters
# whose statistics are taken. An untrained generator's samples are far from the images, and this distance, the mean
# shift, is most of the first component: with these statistics, the untrained one has the steeper spectrum. With those
# of the data it is the trained one, but only with the division.
#
# A steep spectrum is not a better one. Read it as the answer to "how many components hold most of what the kernel
# says?", and ask a probe what they are worth: :ref:`sphx_glr_auto_examples_plot_rank.py`.
