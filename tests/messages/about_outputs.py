"""Messages about what a model returns, and about statistics: (trigger, class, message)."""

import numpy as np
from torch import nn

from sknfk.densities import (
    Classifier,
    Discriminator,
    Embedding,
    LogProb,
    MultiLabel,
    Output,
)

from ..cases import mlp, rows, seeded
from .making import X, fit, value


class Doing(nn.Module):
    """A network whose output goes through a function."""

    def __init__(self, function, n_outputs=3):
        super().__init__()
        self.net, self.function = mlp(5, n_outputs), function

    def forward(self, x):
        return self.function(self.net(x))


class TwoParts(nn.Module):
    def encode(self, x):
        return x

    def decode(self, z):
        return z


def gan(**options):
    return Discriminator(**{"generator": seeded(lambda: nn.Linear(2, 5))} | options)


def each_row(m, x):
    return m(x)


NO_MEANING = (
    "`model` must return one scalar per row, (N,) or (N, 1), or a row of logits, (N, C). Got {}. Choose its density: "
    "Variational() for a VAE with `encode` and `decode`, Embedding() for a backbone without a head, "
    "LogProb(method=...) for a method that gives log p(x), LanguageModel() for logits of the next token, "
    "(N, T, n_tokens), all of sknfk.densities; or pass `density` as a callable (model, x) -> (B,) that reduces the "
    "output."
)


MESSAGES = {
    "several outputs": (lambda: fit(Doing(lambda y: (y, y))), TypeError, NO_MEANING.format("tuple for 3 rows")),
    "no row of logits": (
        lambda: fit(Doing(lambda y: y[:, None].expand(-1, 7, -1))),
        ValueError,
        NO_MEANING.format("a tensor of shape (3, 7, 3) for 3 rows"),
    ),
    "an output that is no tensor": (
        lambda: fit(Doing(lambda y: "y"), density="classifier"),
        TypeError,
        NO_MEANING.format("str for 3 rows"),
    ),
    "logits that are no rows": (
        lambda: value(Classifier(), Doing(lambda y: y[:, :, None].expand(-1, -1, 2))),
        ValueError,
        NO_MEANING.format("a tensor of shape (3, 3, 2) for 3 rows"),
    ),
    "a scalar that is none": (
        lambda: value(Output(), mlp()),
        ValueError,
        NO_MEANING.format("a tensor of shape (3, 3) for 3 rows"),
    ),
    "features that are no rows": (
        lambda: value(Embedding(), Doing(lambda y: y.sum(1))),
        ValueError,
        NO_MEANING.format("a tensor of shape (3,) for 3 rows"),
    ),
    "probabilities": (
        lambda: fit(nn.Sequential(mlp(), nn.Softmax(1))),
        ValueError,
        "`model` must return logits. Its rows are probabilities (they sum to 1); remove its last step, or choose a "
        "density of them with density=Logit('argmax') or a callable.",
    ),
    "one output": (
        lambda: fit(mlp(5, 1)),
        UserWarning,
        "The model has one output column, taken as the log-density itself (density='output'); for the logit of a "
        "binary classifier pass density='classifier'.",
    ),
    "no forward": (
        lambda: fit(TwoParts()),
        ValueError,
        "`density` must be named for a model without `forward`. Got 'auto' for TwoParts; pass density='elbo' where it "
        "has `encode` and `decode`, or LogProb(method=...) where a method gives log p(x).",
    ),
    "a callable that returns a row": (
        lambda: fit(density=each_row),
        ValueError,
        "`density` as a callable must return a tensor of shape (B,), one scalar per row. Got a tensor of shape (3, 3) "
        "for B = 3; reduce all axes but the first.",
    ),
    "a callable that raises": (
        lambda: fit(density=lambda model, x: model.encoder(x).sum(1)),
        ValueError,
        "`density` must take the model and rows of shape (5,) and dtype float64. It raised: 'Sequential' object has no "
        "attribute 'encoder'. Call it on them by itself, and see that it is a function (model, x) -> (B,).",
    ),
    "a generator for a callable": (
        lambda: fit(density=seeded(lambda: nn.Linear(2, 5))),
        ValueError,
        "`density` must take the model and rows of shape (5,) and dtype float64. It raised: …takes 2 positional "
        "arguments but 3 were given. Call it on them by itself, and see that it is a function (model, x) -> (B,).",
    ),
    "a class for its instance": (
        lambda: fit(density=MultiLabel),
        TypeError,
        "`density` must be an instance. Got the class MultiLabel; pass `MultiLabel()`.",
    ),
    "parts for a density of arrays": (
        lambda: value(LogProb(dequantize="add"), mlp(5, 1), {"a": X, "b": X}),
        TypeError,
        "LogProb needs X as one array. Got the parts a, b; pass a callable (model, x) -> (B,) as `density`, which gets "
        "the parts as a dict.",
    ),
    "a method that is not there": (
        lambda: value(LogProb("logp"), mlp()),
        ValueError,
        "`model` must have a method 'logp'. Sequential has none; name another, or pass a callable of the model and its "
        "inputs.",
    ),
    "a method that returns a row": (
        lambda: value(LogProb("forward"), mlp()),
        ValueError,
        "`method` 'forward' must return one scalar per row, (B,). Got a tensor of shape (3, 3) for B = 3; sum over all "
        "axes but the first.",
    ),
    "statistics of a model that cannot sample": (
        lambda: fit(statistics="model"),
        ValueError,
        "`statistics` must be 'data' or an array of samples with Classifier(), which cannot sample. Got 'model'; wrap "
        "the density in `sknfk.densities.Sampled(density, sampler)` to draw samples by a Markov chain.",
    ),
    "statistics of a model for parts": (
        lambda: fit(Doing(lambda y: y), X={"x": rows(12)}, statistics="model"),
        ValueError,
        "`statistics` must be 'data' where X has parts by name. Got 'model', whose samples are single tensors; leave "
        "it out.",
    ),
    "samples of another shape": (
        lambda: fit(mlp(5, 1), density=gan(generator=seeded(lambda: nn.Linear(2, 4)))),
        ValueError,
        "Samples of Discriminator(generator=Linear(...)…) must have the shape of an example, (5,). Got (4,); let the "
        "generator return what the model reads.",
    ),
    "gradients that are all the same": (
        lambda: fit(X=np.ones((12, 5))),
        UserWarning,
        "All 66 parameters have the same gradient for every reference row, so Fisher vectors are zero; check that the "
        "rows differ and that the model's output depends on them.",
    ),
}
