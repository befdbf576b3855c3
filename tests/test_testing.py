"""The public checks pass on all that is ours, and each of their claims fails on an example that breaks it."""

import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from sknfk.batches import Batches
from sknfk.densities import CallableDensity, Classifier, Density, Logit, LogProb, Output
from sknfk.fisher import FisherVectorOperator, FisherVectors, estimate_moments, estimate_statistics
from sknfk.gradients import LogDensityModel, LoopEngine, ParameterSpace, VmapEngine, make_engine
from sknfk.solvers import (
    SOLVERS,
    Exact,
    MatrixOperator,
    ScipyFace,
    SubspaceIteration,
    make_solver,
)
from sknfk.testing import check_density, check_engine, check_operator, check_solver

from .cases import MODELS, convnet, mlp, rows

VMAP_SERVES = ["mlp", "convnet", "tied", "attention", "tokens"]


def half_square(model, x):
    return 0.5 * model(x).square().sum(1)


def drawn_rows(*shape, seed=0):
    return torch.from_numpy(rows(*shape, seed=seed))


# Densities


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


# Engines


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


# Operators


def fisher_vectors(engine="vmap", dtype=torch.float64):
    model, X = convnet().to(dtype), rows(9, 1, 8, 8)
    space = ParameterSpace.of(model)
    found = make_engine(engine, LogDensityModel(model, Classifier(), space))
    batches = Batches(X, 4, torch.device("cpu"), dtype, (1, 8, 8))
    statistics = estimate_statistics(estimate_moments(found, batches, space))
    return FisherVectors(found, batches, statistics.mean_score, statistics.scale("diag", 1e-3), dtype)


def matrix(n_rows=7, n_columns=5, dtype=torch.float64):
    return drawn_rows(n_rows, n_columns).to(dtype)


@pytest.mark.parametrize("engine", ["vmap", "loop"])
def test_check_operator_passes_on_fisher_vectors(engine):
    check_operator(fisher_vectors(engine))


def test_check_operator_passes_on_fisher_vectors_in_float32():
    check_operator(fisher_vectors(dtype=torch.float32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (1, 3), (3, 1)])
def test_check_operator_passes_on_matrices(shape, dtype):
    check_operator(MatrixOperator(matrix(*shape, dtype)))


def test_check_operator_passes_on_scipy_faces():
    check_operator(FisherVectorOperator(fisher_vectors()))
    check_operator(ScipyFace(MatrixOperator(matrix())))


class WrongShape(MatrixOperator):
    def matmat(self, W):
        return super().matmat(W)[1:]


class WrongDtype(MatrixOperator):
    def rmatmat(self, Y):
        return super().rmatmat(Y).float()


class NotAdjoint(MatrixOperator):
    def rmatmat(self, Y):
        return super().rmatmat(Y) + 0.01 * Y.sum()


class NotLinear(MatrixOperator):
    def matmat(self, W):
        return super().matmat(W) * W.norm(dim=0)


class NotLinearBackwards(MatrixOperator):
    def rmatmat(self, Y):
        return super().rmatmat(Y) * Y.norm(dim=0)


class Overwrites(MatrixOperator):
    def matmat(self, W):
        product = super().matmat(W)
        W *= 2
        return product


class Cached(MatrixOperator):
    """Hands out the array that it keeps."""

    def matmat(self, W):
        if not torch.equal(getattr(self, "given", torch.empty(0)), W):
            self.given, self.kept = W.clone(), super().matmat(W)
        return self.kept


class ScaledSweep(MatrixOperator):
    def sweep(self, W):
        YtY, CW = super().sweep(W)
        return YtY / len(self.matrix), CW


class HalfSweep(MatrixOperator):
    def sweep(self, W):
        YtY, CW = super().sweep(W)
        return YtY, CW - 0.01 * W


class GramOfOtherSide(MatrixOperator):
    def gram(self):
        return self.matrix.T @ self.matrix


BROKEN_OPERATORS = {
    WrongShape: r"`matmat` must give the shape.* that `operator` states. Got a tensor of shape \(6, 5\)",
    WrongDtype: "`rmatmat` must give the shape, dtype .* torch.float32, on cpu instead of",
    NotAdjoint: "`rmatmat` must be the adjoint of `matmat`. Got a relative difference",
    NotLinear: "`matmat` must be linear in its input",
    NotLinearBackwards: "`rmatmat` must be linear in its input",
    Overwrites: "`matmat` must leave its input alone",
    Cached: "`matmat` must give the same product twice",
    ScaledSweep: "first part of `sweep",
    HalfSweep: "second part of `sweep",
    GramOfOtherSide: r"`gram\(\)` must be V V\^T",
}


@pytest.mark.parametrize("broken", BROKEN_OPERATORS)
def test_check_operator_fails_on(broken):
    with pytest.raises(AssertionError, match=BROKEN_OPERATORS[broken]):
        check_operator(broken(matrix()))


@pytest.mark.parametrize("broken", [NotAdjoint, ScaledSweep])
def test_check_operator_looks_behind_a_scipy_face(broken):
    with pytest.raises(AssertionError, match=BROKEN_OPERATORS[broken]):
        check_operator(ScipyFace(broken(matrix())))


@pytest.mark.parametrize("product", ["matvec", "rmatvec", "matmat", "rmatmat"])
def test_check_operator_fails_on_a_face_with_one_wrong_product(product):
    face = ScipyFace(MatrixOperator(matrix()))
    right = getattr(face, product)
    setattr(face, product, lambda block: 2 * right(block))
    with pytest.raises(AssertionError, match=f"`{product}` of the face must be that of its operator"):
        check_operator(face)


def test_check_operator_fails_on_a_face_of_another_dtype():
    face = ScipyFace(MatrixOperator(matrix()))
    face.dtype = np.dtype(np.float32)
    with pytest.raises(AssertionError, match=r"shape and dtype, \(7, 5\) and float64. Got \(7, 5\) and float32"):
        check_operator(face)


def test_check_operator_fails_on_what_is_no_operator():
    with pytest.raises(AssertionError, match="must have `shape`, .* Got Tensor of torch.float64"):
        check_operator(matrix())


def test_check_operator_refuses_what_is_too_large_to_form():
    with pytest.raises(ValueError, match=r"at most 4096 rows and columns.* Got \(1, 5000\)"):
        check_operator(MatrixOperator(torch.zeros(1, 5000)))


# Solvers


@pytest.mark.parametrize("name", SOLVERS)
def test_check_solver_passes_on_every_solver_with_its_defaults(name):
    check_solver(make_solver(name))


TIGHT_RTOL = 1e-7  # sqrt(eps) of a float64 Gram matrix, with a margin


@pytest.mark.parametrize("name", ["krylov", "subspace", "exact"])
def test_check_solver_passes_tightly_on_tight_solvers(name):
    check_solver(make_solver(name, tol=1e-14, max_sweeps=200), rtol=TIGHT_RTOL)


def altered(change):
    """Return the exact solver with its result changed."""

    def solver(operator, n_components, generator):
        return change(Exact()(operator, n_components, generator), n_components)

    return solver


def one_too_many(result, n_components):
    return replace(result, components=result.components.repeat(2, 1))


def float32_values(result, n_components):
    return replace(result, singular_values=result.singular_values.float())


def stretched(result, n_components):
    return replace(result, components=1.001 * result.components)


def negated(result, n_components):
    return replace(result, components=-result.components)


def ascending(result, n_components):
    return replace(result, components=result.components.flip(0), singular_values=result.singular_values.flip(0))


def mispaired(result, n_components):
    return replace(result, components=result.components.flip(0))


def never_content(result, n_components):
    return replace(result, converged=False)


def by_rank(result, n_components):
    return mispaired(result, n_components) if n_components == 3 else result


def overconfident(operator, n_components, generator):
    result = SubspaceIteration(tol=0, max_sweeps=2)(operator, n_components, generator)
    return replace(result, error_estimate=0.0, converged=True)


def too_early(operator, n_components, generator):
    result = SubspaceIteration(tol=0, max_sweeps=1)(operator, n_components, generator)
    return replace(result, converged=True)


def irreproducible(operator, n_components, generator):
    own = torch.Generator()
    own.seed()
    return SubspaceIteration(tol=1e-9)(operator, n_components, own)


def global_draws(operator, n_components, generator):
    torch.rand(())
    return Exact()(operator, n_components, generator)


def refuses(operator, n_components, generator):
    raise NotImplementedError("wide matrices")


BROKEN_SOLVERS = {
    "too many components": (altered(one_too_many), r"`components` must be of shape \(K, P\)"),
    "singular values in float32": (altered(float32_values), r"`singular_values` must be .* in float64"),
    "not orthonormal": (altered(stretched), "must be orthonormal on a decaying matrix"),
    "wrong sign": (altered(negated), "largest modulus of each component must be positive .* Got 5 of 5"),
    "unsorted": (altered(ascending), "must descend"),
    "values of other components": (altered(mispaired), "must be the lengths of V times the components"),
    "inaccurate": (too_early, "must be those of the dense SVD on a .* Got an error of"),
    "never converged": (altered(never_content), "must converge on a decaying matrix"),
    "irreproducible": (irreproducible, "bitwise equal results with equal generators"),
    "no nesting": (altered(by_rank), "components of rank 3 must be the first of rank 5"),
    "global generator": (global_draws, "leave torch's global random state alone"),
    "refuses": (refuses, r"serve a matrix of shape \(60, 40\) .* raised NotImplementedError: wide"),
}


@pytest.mark.parametrize("broken", BROKEN_SOLVERS)
def test_check_solver_fails_on(broken):
    solver, message = BROKEN_SOLVERS[broken]
    with pytest.raises(AssertionError, match=message):
        check_solver(solver)


def test_check_solver_fails_on_an_estimate_below_the_energy_lost():
    with pytest.raises(AssertionError, match="must not be below the share of energy lost .* Got 0.0e"):
        check_solver(overconfident, rtol=1.0)
