"""Messages of displays, and of checks for extensions: (trigger, class, message)."""

import sys

import numpy as np
import torch

from sknfk.densities import (
    CallableDensity,
    Classifier,
)
from sknfk.inspection import (
    ComponentExamplesDisplay,
    RankCurveDisplay,
    SpectrumDisplay,
    draw_labels,
)
from sknfk.solvers import MatrixOperator
from sknfk.testing import check_density, check_operator

from ..cases import mlp, rows
from .making import as_tensor, fit

MATRIX = torch.from_numpy(rows(20, 30))


def without_matplotlib(patch):
    patch.setitem(sys.modules, "matplotlib.pyplot", None)
    SpectrumDisplay.from_estimator(fit())


MESSAGES = {
    "too many labels": (
        lambda: draw_labels([0, 0, 1, 1], 3),
        ValueError,
        "`n_labels` must be between 1 and the size of the smallest class, 2. Got 3; lower it, or None takes all rows.",
    ),
    "no images": (
        lambda: ComponentExamplesDisplay(images=rows(3), projections=rows(3)).plot(),
        ValueError,
        "`images` must be of shape (n, height, width), (n, height, width, 3) or (n, 3, height, width). Got (3, 5); "
        "reshape flat rows, or pass `images` beside X.",
    ),
    "sign": (
        lambda: ComponentExamplesDisplay(images=rows(3, 4, 4), projections=rows(3)).plot(sign=0),
        ValueError,
        "`sign` must be 1 or -1. Got 0; choose one of them.",
    ),
    "ranks": (
        lambda: RankCurveDisplay.from_estimator(fit(), None, rows(12), np.arange(12) % 2, ranks=[2, 4]),
        ValueError,
        "`ranks` must be between 1 and the fitted n_components_ = 3. Got [4]; leave them out or fit with more "
        "components.",
    ),
    "kind": (
        lambda: SpectrumDisplay.from_estimator(fit(), kind="scree"),
        ValueError,
        "`kind` must be 'explained' or 'eigenvalues'. Got 'scree'; choose one of them.",
    ),
    "no matplotlib": (
        without_matplotlib,
        ImportError,
        "SpectrumDisplay.plot needs matplotlib. Install it with `pip install sknfk[plot]`.",
    ),
    "a check on one row": (
        lambda: check_density(Classifier(), mlp(), as_tensor(1)),
        ValueError,
        "`x` must have two rows or more, to tell rows from batches. Got 1; pass a few different rows.",
    ),
    "a check of a large operator": (
        lambda: check_operator(MatrixOperator(torch.ones(1, 5000))),
        ValueError,
        "`operator` must have at most 4096 rows and columns, as the check forms it. Got (1, 5000); make a smaller one.",
    ),
    "a claim that does not hold": (
        lambda: check_operator(MATRIX.numpy()),
        AssertionError,
        "`operator` must have `shape`, `device`, `matmat`, `rmatmat`, `sweep`, `gram` and a `dtype` that is "
        "torch.float32 or torch.float64. Got ndarray of float64.",
    ),
    "a claim that raises": (
        lambda: check_density(CallableDensity(lambda m, x: 1 // 0), mlp(), as_tensor()),
        AssertionError,
        "…. It raised ZeroDivisionError: …",
    ),
}
