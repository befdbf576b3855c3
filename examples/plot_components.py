"""
What the components look at
===========================

The examples with the largest projections on a component show what it stands for: Figure 6 of the NFK paper, for a
network that was told only whether a digit is odd.
"""

from parity import load_images, trained_net

from sknfk import NFKTransformer
from sknfk.inspection import ComponentExamplesDisplay

digits = load_images()
nfk = NFKTransformer(trained_net(digits), n_components=8, random_state=0).fit(digits.X_train)

# %%
# A row is a component, from the one with the largest share of the trace on. Some rows show one digit, some a way of
# writing, some no more than dark ink.

display = ComponentExamplesDisplay.from_estimator(nfk, digits.X_test, n_components=8, n_examples=10, cmap="gray_r")

# %%
# How pure are the rows? Of the ten images, so many show the digit that is commonest among them:

for component, rows in enumerate(display.rows_, start=1):
    shown = digits.y_test[rows].tolist()
    commonest = max(set(shown), key=shown.count)
    print(f"component {component}: {shown.count(commonest)} of {len(shown)} are a {commonest}")

# %%
# A component's sign has no meaning, so its other end is as good. It need not show the opposite of anything.

display = ComponentExamplesDisplay.from_estimator(
    nfk, digits.X_test, n_components=4, n_examples=10, sign=-1, cmap="gray_r"
)
