"""
Nearest neighbours
==================

Which images does a network take for alike? In the last layer of one that was trained on odd or even, digits of one
parity lie close together. Do the gradients by all its parameters tell them apart better?
"""

import numpy as np
from parity import activations, load_images, trained_net
from sklearn.neighbors import KNeighborsClassifier

from sknfk import NFKTransformer
from sknfk.inspection import NeighborsDisplay

digits = load_images()
model = trained_net(digits)
queries = np.array([np.flatnonzero(digits.y_test == digit)[0] for digit in (1, 3, 5, 8, 9)])


def show(train, test):
    """Draw the neighbours; frames of another digit than the query's are dashed."""
    NeighborsDisplay.from_embeddings(
        test[queries],
        train,
        digits.X_test[queries],
        digits.X_train,
        query_labels=digits.y_test[queries],
        labels=digits.y_train,
        n_neighbors=8,
        cmap="gray_r",
    )
    neighbours = KNeighborsClassifier(5, metric="cosine").fit(train, digits.y_train)
    print(f"five nearest neighbours vote for the right digit: {neighbours.score(test, digits.y_test):.3f}")


# %%
# By the angle between activations of the last layer:

show(activations(model[:9], digits.X_train), activations(model[:9], digits.X_test))

# %%
# By the angle between Fisher vectors, in 64 components. The vote over all test images is right more often, though the
# nine found better company above: a picture of five queries proves nothing.

nfk = NFKTransformer(model, n_components=64, random_state=0)
show(nfk.fit_transform(digits.X_train), nfk.transform(digits.X_test))

# %%
# And by the angle between the images themselves. On images this simple and aligned that is hard to beat, and a
# comparison without it would say little.

show(digits.X_train.reshape(len(digits.X_train), -1), digits.X_test.reshape(len(digits.X_test), -1))
