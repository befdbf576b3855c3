"""`check_density` passes on our densities, and each of its claims fails on an example that breaks it."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sknfk.densities import CallableDensity, Classifier, Density, Embedding, Logit, LogProb, Output, Variational
from sknfk.testing import check_density

from ..cases import MODELS, drawn_rows, mlp, rows


def half_square(model, x):
    return 0.5 * model(x).square().sum(1)


@pytest.mark.parametrize("name", MODELS)
def test_check_density_passes_on_every_model(name):
    model, X = MODELS[name]()
    check_density(Classifier(), model, torch.from_numpy(X))


@pytest.mark.parametrize(
    "density", [Classifier(), Logit(), Logit("sum"), Logit(1), CallableDensity(half_square)], ids=repr
)
def test_check_density_passes_on_our_densities_of_several_outputs(density):
    check_density(density, mlp(), drawn_rows(4))


@pytest.mark.parametrize("density", [Classifier(), Logit(0), Output(), LogProb()], ids=repr)
def test_check_density_passes_on_our_densities_of_one_output(density):
    check_density(density, mlp(n_outputs=1), drawn_rows(4))


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = mlp(5, 4), mlp(2, 5)

    def encode(self, x):
        return self.down(x).chunk(2, dim=1)

    def decode(self, h):
        return self.up(h)

    def forward(self, x):
        return self.decode(self.encode(x)[0])


@pytest.mark.parametrize(
    "density",
    [
        Variational(likelihood="gaussian"),
        Variational(likelihood="gaussian", bound="importance"),
        Embedding(3),
        LogProb(half_square, dequantize="add"),
    ],
    ids=repr,
)
def test_check_density_prepares_densities_that_draw_noise_once(density):
    check_density(density, Autoencoder(), drawn_rows(4))


class Checkpointed(nn.Sequential):
    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


def test_check_density_passes_where_activations_are_computed_anew():
    check_density(Classifier(), Checkpointed(*mlp()), drawn_rows(4))


def test_check_density_passes_where_gradients_are_sparse():
    table = nn.Sequential(nn.Embedding(7, 3, sparse=True), nn.Flatten(), nn.Linear(6, 3))
    check_density(Classifier(), table, torch.tensor([[1, 1], [0, 5], [6, 2]]))


def test_check_density_takes_float32_and_leaves_model_and_random_state_alone():
    model = mlp().float().train()
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    check_density(Classifier(), model, drawn_rows(4).float())
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())


class Broken(Density):
    """The free energy, but for one thing: what ``flaw`` makes of it."""

    def log_density(self, model, x):
        return self.flaw(model, x, torch.logsumexp(model(x), dim=1))


class Columns(Broken):
    def flaw(self, model, x, values):
        return values[:, None]


class Infinite(Broken):
    def flaw(self, model, x, values):
        return torch.where(values > values.mean(), values, torch.inf)


class Random(Broken):
    def flaw(self, model, x, values):
        return values + torch.rand(())


class InPlace(Broken):
    def flaw(self, model, x, values):
        x *= 2
        return values


class MixesRows(Broken):
    def flaw(self, model, x, values):
        return values - values.mean() / 2


class RefusesOneRow(Broken):
    def flaw(self, model, x, values):
        if len(x) == 1:
            raise ValueError("Expected more than 1 value per channel")
        return values


class ByPosition(Broken):
    def flaw(self, model, x, values):
        out_of_order = len(x) > 1 and float(x[0, 0]) != FIRST
        return values + float(out_of_order)


FIRST = rows(4)[0, 0]  # where the rows of these tests begin


class Silent(Broken):
    def __repr__(self):
        return "a density"

    def flaw(self, model, x, values):
        return values


class HoldsLambda(Broken):
    def __init__(self):
        self.scale = lambda values: values

    def flaw(self, model, x, values):
        return self.scale(values)


class ForgetsInPickle(Broken):
    def __init__(self):
        self.scale = 2.0

    def __reduce_ex__(self, protocol):
        return copy.copy, (NOT_SCALED,)

    def flaw(self, model, x, values):
        return self.scale * values


class NotScaled(ForgetsInPickle):
    def __init__(self):
        self.scale = 1.0

    def __reduce_ex__(self, protocol):
        return NotScaled, ()


NOT_SCALED = NotScaled()


class ForgetsInCopy(ForgetsInPickle):
    def __reduce_ex__(self, protocol):
        return ForgetsInCopy, ()

    def __deepcopy__(self, memo):
        return NOT_SCALED


@dataclass(frozen=True)
class HoldsModel(Density):
    own: nn.Module

    def log_density(self, model, x):
        return torch.logsumexp(self.own(x), dim=1)


class Memoises(Broken):
    """Keeps the first weight that it meets of each module object."""

    def __init__(self):
        self.first = {}

    def flaw(self, model, x, values):
        bias = self.first.setdefault(id(model), model[0].bias.detach().clone())
        return values + bias.sum()


class Detached(Broken):
    def flaw(self, model, x, values):
        return values.detach()


class SteepAtZero(Broken):
    def flaw(self, model, x, values):
        return values + (values - values.detach()).abs().sqrt()


class TurnsToTraining(Broken):
    def flaw(self, model, x, values):
        model.train()
        return values


class WritesWeights(Broken):
    def flaw(self, model, x, values):
        model[0].weight.data.flatten()[0] += 1e-14
        return values


class RequiresGradients(Broken):
    def flaw(self, model, x, values):
        model.requires_grad_()
        return values


class SeedsGlobally(Broken):
    def flaw(self, model, x, values):
        torch.manual_seed(0)
        return values + torch.rand(())


BROKEN_DENSITIES = {
    Columns: r"one value per row, a tensor of shape \(4,\). Got shape \(4, 1\)",
    Infinite: r"must be finite. Got \d of 4 values",
    Random: r"same values twice. Got a relative difference of",
    InPlace: "same values twice",
    MixesRows: "same value alone as in its batch",
    RefusesOneRow: r"accept rows of shape \(1, 5\). It raised ValueError: Expected more than 1",
    ByPosition: "wherever it stands in its batch",
    Silent: "must name its class, Silent. Got 'a density'",
    HoldsLambda: "survive a pickle round trip. It raised",
    ForgetsInPickle: "same values after a pickle round trip",
    ForgetsInCopy: r"same values after copy\.deepcopy",
    Memoises: "what it gives of a module loaded with them",
    Detached: "must reach the model's parameters. It reaches none of 4",
    SteepAtZero: r"gradient of `density` must be finite. That of \['0.weight'",
    TurnsToTraining: "leave the module as it found it. It changed training of 'Sequential'",
    WritesWeights: "It changed the values of '0.weight'",
    RequiresGradients: "It changed requires_grad of '0.weight'",
    SeedsGlobally: "leave torch's global random state alone",
}


@pytest.mark.parametrize("broken", BROKEN_DENSITIES)
def test_check_density_fails_on(broken):
    with pytest.raises(AssertionError, match=BROKEN_DENSITIES[broken]):
        check_density(broken(), mlp(), drawn_rows(4))


def test_check_density_fails_on_a_density_that_holds_its_own_model():
    model = mlp()
    with pytest.raises(AssertionError, match="call `model`, do not hold one"):
        check_density(HoldsModel(model), model, drawn_rows(4))


def test_check_density_refuses_a_single_row():
    with pytest.raises(ValueError, match="two rows or more"):
        check_density(Classifier(), mlp(), drawn_rows(1))
