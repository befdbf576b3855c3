"""`check_engine` passes on our engines, and each of its claims fails on an example that breaks it."""

import pytest
import torch

from sknfk.densities import Classifier, Logit
from sknfk.gradients import LoopEngine, VmapEngine, make_engine
from sknfk.testing import check_engine

from ..cases import MODELS, drawn_rows, mlp

VMAP_SERVES = ["mlp", "convnet", "tied", "attention", "tokens"]


@pytest.mark.parametrize("engine", ["vmap", "loop", "jvp"])
@pytest.mark.parametrize("name", VMAP_SERVES)
def test_check_engine_passes_on_every_engine(engine, name):
    model, X = MODELS[name]()
    check_engine(lambda seen: make_engine(engine, seen), model, Classifier(), torch.from_numpy(X))


@pytest.mark.parametrize("name", ["data_dependent", "recurrent"])
def test_check_engine_passes_on_the_loop_where_vmap_refuses(name):
    model, X = MODELS[name]()
    check_engine(LoopEngine, model, Classifier(), torch.from_numpy(X))


def test_engines_may_be_given_as_classes():
    check_engine(VmapEngine, mlp(), Logit(2), drawn_rows(3))


class BrokenEngine:
    """The loop, but for one answer of its block."""

    name = "broken"

    def __init__(self, model):
        self.loop = LoopEngine(model)
        self.model = model

    def __call__(self, x):
        self.x = x
        self.block = self.loop(x)
        return self

    def __getattr__(self, name):
        return getattr(self.block, name)


class WrongScale(BrokenEngine):
    def rows(self):
        return self.block.rows() * (1 + 1e-8)


class Float32Sum(BrokenEngine):
    def sum(self):
        return self.block.sum().float()


class MeanSquare(BrokenEngine):
    def squared_sum(self):
        return self.block.squared_sum() / len(self.x)


class WrongProduct(BrokenEngine):
    def matmat(self, W):
        return self.block.matmat(W.flip(0))


class WrongTranspose(BrokenEngine):
    def rmatmat(self, Y, add_to=None):
        return self.block.rmatmat(Y.flip(0), add_to)


class ForgetsTheSum(BrokenEngine):
    """Returns the right sum, and leaves the one that it was given as it was."""

    def rmatmat(self, Y, add_to=None):
        return self.block.rmatmat(Y) if add_to is None else add_to + self.block.rmatmat(Y)


class MeanOfBatch(BrokenEngine):
    """Right for six rows, as if the loss were a mean with the batch size put back."""

    def sum(self):
        return self.block.sum() * 6 / len(self.x)


class SqueezesColumns(BrokenEngine):
    def rmatmat(self, Y, add_to=None):
        return self.block.rmatmat(Y if Y.shape[1] > 1 else Y.cumsum(0), add_to)


class RefusesOneRowEngine(BrokenEngine):
    def __call__(self, x):
        if len(x) == 1:
            raise RuntimeError("no batching rule")
        return super().__call__(x)


class LeavesGradients(BrokenEngine):
    def sum(self):
        weight = self.model.model[0].weight
        weight.grad = torch.zeros_like(weight)
        return self.block.sum()


class DrawsGlobally(BrokenEngine):
    def sum(self):
        torch.rand(())
        return self.block.sum()


BROKEN_ENGINES = {
    WrongScale: r"`rows` .* by plain autograd. Got a relative difference of 1.0e-08",
    Float32Sum: r"`sum` .*by plain autograd. Got a tensor of shape \(66,\), torch.float32, on cpu instead of",
    MeanSquare: "`squared_sum` of the engine's block must equal",
    WrongProduct: "`matmat` of the engine's block must equal",
    WrongTranspose: "`rmatmat` of the engine's block must equal",
    ForgetsTheSum: "`rmatmat, added to a sum` of the engine's block must equal",
    MeanOfBatch: "`sum` .* must not depend on how the rows are cut",
    SqueezesColumns: "each other's adjoint for one column",
    RefusesOneRowEngine: r"answer for rows of shape \(1, 5\). It raised RuntimeError: no batching rule",
    LeavesGradients: "`engine` must leave the module as it found it. It changed grad of '0.weight'",
    DrawsGlobally: "`engine` must leave torch's global random state alone",
}


@pytest.mark.parametrize("broken", BROKEN_ENGINES)
def test_check_engine_fails_on(broken):
    with pytest.raises(AssertionError, match=BROKEN_ENGINES[broken]):
        check_engine(broken, mlp(), Classifier(), drawn_rows(6))


def test_check_engine_fails_on_a_factory_that_raises():
    with pytest.raises(AssertionError, match="make an engine of a LogDensityModel. It raised TypeError"):
        check_engine(lambda: None, mlp(), Classifier(), drawn_rows(6))
