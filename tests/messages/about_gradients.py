"""Messages about parameters, gradients and engines: (trigger, class, message)."""

import warnings

import torch
from torch import nn
from torch.nn import functional as F

from sknfk.batches import Batches
from sknfk.densities import (
    CallableDensity,
    Classifier,
    Output,
)
from sknfk.exceptions import UnsupportedByEngineError
from sknfk.fisher import estimate_moments
from sknfk.gradients import (
    DenseBlock,
    LayerwiseEngine,
    VmapEngine,
    check_log_density,
    make_engine,
    select_engine,
)

from ..cases import data_dependent, mlp, rows, seeded
from .making import as_tensor, fit, seen


def check(function, model=None):
    model = mlp() if model is None else model
    check_log_density(seen(model, CallableDensity(function)), as_tensor())


def probed(density, model=None):
    check_log_density(seen(mlp() if model is None else model, density), as_tensor())


class Unreduced(Output):
    """A density that does not keep its word."""

    def log_density(self, model, x):
        return model(x)


class Noise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.rand(())


class BadRoot(nn.Module):
    def __init__(self):
        super().__init__()
        self.good, self.bad = nn.Linear(5, 1), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.good(x)[:, 0] + self.bad.sqrt()


def normalised_by_its_batch():
    return seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False)))


class Written(nn.Module):
    """A network that calls its layers as a function says."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x):
        return self.function(self, x)


def layerwise(function):
    model = seeded(lambda: Written(function))
    return LayerwiseEngine(seen(model)), model


def formed(function):
    layerwise(function)[0](as_tensor())


def overwritten(m, x):
    h = m.a(x)
    y = m.b(h)
    h.mul_(2)
    return y + h


def of_one_row(m, x):
    return m.a(x) if len(x) == 1 else torch.stack([m.a(row) for row in x])


def of_other_rows():
    engine, model = layerwise(lambda m, x: m.a(x) if m.calm else torch.tanh(m.a(x) * m.a(x)))
    model.calm = True
    engine(as_tensor())
    model.calm = False
    engine(as_tensor())


def other_uses():
    engine, model = layerwise(lambda m, x: F.linear(x, m.a.weight if m.calm else torch.ones(5, 5).to(x)))
    model.calm = True
    engine(as_tensor())
    model.calm = False
    engine(as_tensor())


def weights_from_rows():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        scripted = torch.jit.script(nn.Tanh())  # nothing can look into it
    formed(lambda m, x: m.b(x) * scripted(m.a(x)).sum(0))


def by_value(m, x):
    return m.a(x) if bool(x.sum() > 0) else m.b(x)


def wrong_gradients(patch):
    form = VmapEngine.__call__
    patch.setattr(VmapEngine, "__call__", lambda self, x: DenseBlock(1.01 * form(self, x).rows()))
    select_engine("vmap", seen(mlp()), as_tensor(2))


class WrongProducts(DenseBlock):
    def matmat(self, W):
        return 1.1 * super().matmat(W)


def wrong_products(patch):
    form = VmapEngine.__call__
    patch.setattr(VmapEngine, "__call__", lambda self, x: WrongProducts(form(self, x).rows()))
    select_engine("vmap", seen(mlp()), as_tensor(2))


def later_in_the_data():
    model = seeded(lambda: nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 3)))
    X = rows(30)
    X[20] = 1e200
    log_densities = seen(model)
    batches = Batches(X, 8, torch.device("cpu"), torch.float64, (5,))
    estimate_moments(make_engine("layerwise", log_densities), batches, log_densities.parameter_space)


NOT_FINITE = (
    "Gradients must be finite. That of '{}' is NaN or infinite; check the scaling of X, or leave the layer out with "
    "`parameters`."
)
LAYERWISE = "engine='layerwise' cannot serve this model: {}. Use engine='vmap' or engine='loop'."


MESSAGES = {
    "no parameter": (
        lambda: fit(nn.Flatten()),
        ValueError,
        "`model` must have floating parameters. It has none; pass a model with weights.",
    ),
    "no parameter requires a gradient": (
        lambda: fit(mlp().requires_grad_(False)),
        ValueError,
        "`model` must have a parameter that requires a gradient. None of its 4 does; pass parameters='*' to select "
        "frozen ones by name.",
    ),
    "no parameter is accepted": (
        lambda: fit(parameters=lambda name, parameter: False),
        ValueError,
        "`parameters` must accept at least one parameter. It refused all 4 of them, such as '0.weight', '0.bias', "
        "'2.weight'.",
    ),
    "no parameter has the name": (
        lambda: fit(parameters="2.wieght"),
        ValueError,
        "`parameters` must match names of the model's parameters. '2.wieght' matches none; near names are '2.weight', "
        "'0.weight', '2.bias'.",
    ),
    "no pattern": (
        lambda: fit(parameters=[]),
        ValueError,
        "`parameters` must name at least one pattern. Got an empty list; pass None for all.",
    ),
    "values that are not finite": (
        lambda: check(lambda m, x: m(x)[:, 0].abs() / 0),
        ValueError,
        "The log-density must be finite. The model gave [inf, inf, inf] for the first 3 rows; check the scaling of "
        "X that the model was trained with.",
    ),
    "values that change": (
        lambda: check(lambda m, x: m(x)[:, 0] + torch.rand(len(x))),
        ValueError,
        "`model` must return the same values for the same X. Two calls on the same rows differ by …; turn off what is "
        "random in it in eval mode (dropout, noise).",
    ),
    "rows that mix": (
        lambda: check(lambda m, x: m(x - x.mean(0))[:, 0]),
        ValueError,
        "`model` must treat the examples of a batch one by one. A row's value changes by … with the rest of its batch; "
        "replace what mixes them (batch statistics, attention over the batch axis).",
    ),
    "gradients that are not finite": (
        lambda: probed(Output(), seeded(BadRoot)),
        ValueError,
        NOT_FINITE.format("bad"),
    ),
    "gradients that change": (
        lambda: check(lambda m, x: Noise.apply(m(x)[:, 0])),
        ValueError,
        "`model` must give the same gradient for the same X. Two calls on the same rows differ; turn off what is "
        "random in its backward pass.",
    ),
    "no gradient": (
        lambda: check(lambda m, x: m(x)[:, 0].detach()),
        ValueError,
        "The log-density must depend on the selected parameters. Its gradient does not exist for any of '0.weight', "
        "'0.bias', '2.weight'; check `parameters`, and that the model's forward keeps the graph (no `torch.no_grad`, "
        "no `.detach()`).",
    ),
    "a density that returns a row": (
        lambda: probed(Unreduced()),
        ValueError,
        "A density must return one scalar per row, of shape (3,). Got (3, 3); sum over all axes but the first.",
    ),
    "an example alone": (
        lambda: probed(Classifier(), normalised_by_its_batch()),
        ValueError,
        "`model` must be able to evaluate one example alone. It raised: …. Replace what needs several rows, such as "
        "statistics of the batch.",
    ),
    "gradients that overflow later": (
        later_in_the_data,
        ValueError,
        NOT_FINITE.format("0.weight"),
    ),
    "an engine that cannot serve": (
        lambda: fit(data_dependent(), engine="vmap"),
        UnsupportedByEngineError,
        "engine='vmap' cannot serve this model (…). Use engine='loop', which serves every model.",
    ),
    "an engine with wrong gradients": (
        wrong_gradients,
        UnsupportedByEngineError,
        "engine='vmap' gives gradients that differ from plain autograd's, by 1.0e-02 of the norm for '0.weight', on 2 "
        "examples. Use engine='loop', which is plain autograd.",
    ),
    "an engine with wrong products": (
        wrong_products,
        UnsupportedByEngineError,
        "engine='vmap' gives gradients that differ from plain autograd's, by 1.0e-01 of the norm in a product, on 2 "
        "examples. Use engine='loop', which is plain autograd.",
    ),
    "no rule for any parameter": (
        lambda: select_engine(
            "layerwise",
            seen(seeded(lambda: nn.GRUCell(5, 3)), CallableDensity(lambda m, x: m(x).sum(1))),
            as_tensor(2),
        ),
        UnsupportedByEngineError,
        "engine='layerwise' knows no rule for any of the model's parameters. Use engine='vmap' or engine='loop'.",
    ),
    "an input that is overwritten": (
        lambda: formed(overwritten),
        UnsupportedByEngineError,
        LAYERWISE.format("the input of a '…' is overwritten later in the forward pass"),
    ),
    "a branch by value": (
        lambda: formed(by_value),
        UnsupportedByEngineError,
        LAYERWISE.format("it goes by the values of the rows ('__bool__')"),
    ),
    "other calls for one row": (
        lambda: formed(of_one_row),
        UnsupportedByEngineError,
        LAYERWISE.format("it calls other functions for a batch of two than for one example"),
    ),
    "other calls for other rows": (
        of_other_rows,
        UnsupportedByEngineError,
        LAYERWISE.format("it calls other functions for other rows"),
    ),
    "other uses for other rows": (
        other_uses,
        UnsupportedByEngineError,
        LAYERWISE.format("it uses weights otherwise for other rows"),
    ),
    "weights made from rows": (
        weights_from_rows,
        UnsupportedByEngineError,
        LAYERWISE.format("it makes weights from the rows"),
    ),
}
