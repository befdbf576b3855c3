"""
What training does to the spectrum
==================================

The spectrum of the Fisher kernel says how many directions a model needs to tell its examples apart. Here is that of a
small network before and after it has learnt to tell odd digits from even ones: Figures 2 and 5 of the NFK paper, whose
own networks ``python -m benchmarks spectra`` trains and measures.
"""

import matplotlib.pyplot as plt
from parity import load_images, trained_net, untrained_net

from sknfk import NFKTransformer
from sknfk.inspection import SpectrumDisplay

digits = load_images()
trained = NFKTransformer(trained_net(digits), n_components=64, random_state=0).fit(digits.X_train)
untrained = NFKTransformer(untrained_net(), n_components=64, random_state=0).fit(digits.X_train)

# %%
# On the left is the share of the kernel's trace that the leading components hold, on the right are the eigenvalues.
# Pass any fitted transformer as ``reference``, or several by their names; scikit-learn's PCA serves too.

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
SpectrumDisplay.from_estimator(trained, reference={"untrained": untrained}, name="trained", ax=left)
SpectrumDisplay.from_estimator(
    trained, kind="eigenvalues", reference={"untrained": untrained}, name="trained", ax=right
)
for name, own in (("trained", trained), ("untrained", untrained)):
    shares = own.explained_variance_ratio_
    print(f"{name}: the first component holds {shares[0]:.2f} of the trace, the first 64 hold {shares.sum():.2f}")

# %%
# Training has put much of the kernel into its first component, which is the direction of odd against even. A steep
# spectrum is not a better one. Read it as the answer to "how many components hold most of what the kernel says?", and
# ask a probe what they are worth: :ref:`sphx_glr_auto_examples_plot_rank.py`.

# %%
# Without the division by the Fisher information (``fisher="identity"``), the kernel is the empirical tangent kernel.
# The parameters with large gradients then speak loudest, and fewer components hold more of it.

plain = NFKTransformer(trained_net(digits), n_components=64, fisher="identity", random_state=0).fit(digits.X_train)
display = SpectrumDisplay.from_estimator(trained, name="divided", reference={"not divided": plain})
