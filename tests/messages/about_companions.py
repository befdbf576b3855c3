"""Messages of the companions: low rank, ranks of layers, influence: (trigger, class, message)."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from sknfk import LowRankRegularizer
from sknfk.inspection import effective_rank, layer_spectra, logistic_influence, ridge_influence, variance_share

from ..cases import mlp, rows

Z, Y = rows(10, 2), np.arange(10) % 2


class Idle(nn.Sequential):
    """Has a layer that it does not call."""

    def forward(self, x):
        return self[0](x)


def influence(y, y_test):
    return logistic_influence(LogisticRegression().fit(Z, Y), Z, y, Z, y_test)


MESSAGES = {
    "layer by another name": (
        lambda: layer_spectra(mlp(), rows(3), "7"),
        ValueError,
        "`layers` must name layers of the module. Got '7'; near names are …",
    ),
    "layer that is not called": (
        lambda: layer_spectra(Idle(nn.Linear(5, 2), nn.Linear(2, 2)), rows(4), "1"),
        ValueError,
        "`layers` must name layers that are called once for each example. '1' gave 0 rows for 4 examples; name one "
        "before or behind it.",
    ),
    "rank above the width": (
        lambda: LowRankRegularizer(6, 7),
        ValueError,
        "`rank` must be between 1 and the width of the activations, 6. Got 7; choose one of them.",
    ),
    "rate above one": (
        lambda: LowRankRegularizer(6, 2, lr=2),
        ValueError,
        "`lr` must be above 0 and at most 1. Got 2; the default is 0.5.",
    ),
    "activations of another width": (
        lambda: LowRankRegularizer(6, 2).loss(torch.zeros(3, 4)),
        ValueError,
        "`width` must be that of the activations, 4. Got 6; make one of that width.",
    ),
    "no singular values": (
        lambda: effective_rank([1.0, -1.0]),
        ValueError,
        "`singular_values` must be finite, not negative, and at least one. Got 2 of them, the least -1.0; pass "
        "those of `layer_spectra`.",
    ),
    "more components than values": (
        lambda: variance_share([2, 1], 3),
        ValueError,
        "`n_components` must be between 1 and the number of singular values, 2. Got 3; choose one of them.",
    ),
    "kernels of other shapes": (
        lambda: ridge_influence(np.eye(3), np.zeros(3), np.eye(2)),
        ValueError,
        "`K` must be of shape (3, 3) and `K_test` of shape (n_samples_test, 3), as y has 3 rows. Got (3, 3) and (2, "
        "2); pass kernels with the training rows.",
    ),
    "no penalty": (
        lambda: ridge_influence(np.eye(3), np.zeros(3), np.eye(3), alpha=0),
        ValueError,
        "`alpha` must be above 0. Got 0; without a penalty the kernel may have no inverse.",
    ),
    "influence within one class": (
        lambda: influence(0 * Y, Y),
        ValueError,
        "`y` must have at least two classes. Got one; pass rows of another class too.",
    ),
    "influence on another class": (
        lambda: influence(Y, Y + 1),
        ValueError,
        "`y_test` must hold classes that `probe` was fitted on, [0, 1]. Got 2; fit the probe on it too.",
    ),
}
