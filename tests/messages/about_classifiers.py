"""Messages of the classifiers beside the transformer: (trigger, class, message)."""

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import FunctionTransformer
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import GradientFeatureClassifier, NFKDistiller

from ..cases import mlp, rows

Y = np.arange(12) % 3


def gradient_features(model=None, y=Y, X=None, **options):
    model = mlp() if model is None else model
    return GradientFeatureClassifier(model, device="cpu", **options).fit(rows(12) if X is None else X, y)


class Branching(nn.Module):
    """A network that looks at a value."""

    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, x):
        return self.net(x) if x.sum() < np.inf else x


def distiller(module=None, y=Y, **options):
    net = NeuralNetClassifier(
        module or mlp().float(), criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0, device="cpu"
    )
    return NFKDistiller(net, FunctionTransformer(), **options).fit(rows(12), y)


MESSAGES = {
    "gradient features of one class": (
        lambda: gradient_features(y=np.zeros(12, dtype=int)),
        ValueError,
        "y must have at least two classes. Got 1 class, …; pass more labels.",
    ),
    "gradient features of rows that the model does not take": (
        lambda: gradient_features(mlp(4)),
        ValueError,
        "`model` must accept rows of shape (5,) and dtype float64. It raised: mat1 and mat2 shapes …. Check X against "
        "the model's first layer, or reshape rows with `input_shape`, such as (3, 32, 32).",
    ),
    "gradient features of an unknown layer": (
        lambda: gradient_features(layers="20"),
        ValueError,
        "`layers` must name layers of the model that have parameters. '20' matches none; near names are '2', '0'.",
    ),
    "gradient features of no layer": (
        lambda: gradient_features(layers=[]),
        ValueError,
        "`layers` must name at least one layer with parameters. Got none; pass 'auto' or a name.",
    ),
    "gradient features that are not finite": (
        lambda: gradient_features(nn.Sequential(mlp(), nn.Threshold(1e9, np.nan))),
        ValueError,
        "The model's output must be finite. It is NaN or infinite for some rows; check X's scaling.",
    ),
    "batch normalisation that cannot be found": (
        lambda: gradient_features(Branching(), fold_batch_norm=True),
        ValueError,
        "`fold_batch_norm` must be False for a model that torch.fx cannot trace. Branching raised TraceError: …. Pass "
        "False, or a model without branches.",
    ),
    "a classifier that stopped early": (
        lambda: gradient_features(max_iter=1),
        ConvergenceWarning,
        "solver='lbfgs' stopped after max_iter=1 steps with a gradient entry of …, above tol=0.0001; raise `max_iter`, "
        "`alpha` or `tol`.",
    ),
    "distillation of one class": (
        lambda: distiller(y=np.where(Y == 0, 0, -1)),
        ValueError,
        "y must have at least two classes. Got 1 class among 4 labelled rows; pass more labels.",
    ),
    "distillation to an unknown layer": (
        lambda: distiller(layer="20"),
        ValueError,
        "`layer` must name layers of the module. Got '20'; near names are '2', '0'.",
    ),
    "distillation to a student with too few outputs": (
        lambda: distiller(mlp(5, 2).float()),
        ValueError,
        "`student` must have an output for each class. Got 2 outputs and 3 classes in y; widen its last layer.",
    ),
    "distillation to a student without a hidden layer": (
        lambda: distiller(nn.Sequential(nn.Linear(5, 3))),
        ValueError,
        "`layer` must give what the student's weights bear on. What '0' takes is X itself; name a layer, whose output "
        "is taken, or pass a student with a hidden layer.",
    ),
    "distillation to another width": (
        lambda: distiller(projection=None),
        ValueError,
        "`layer` must give as many numbers as the teacher's embedding has, 5. Got 7; pass projection='linear', or a "
        "teacher that gives 7.",
    ),
}
