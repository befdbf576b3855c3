"""`check_operator` passes on our operators, and each of its claims fails on an example that breaks it."""

import numpy as np
import pytest
import torch

from sknfk.batches import Batches
from sknfk.densities import Classifier
from sknfk.fisher import FisherVectorOperator, FisherVectors, estimate_moments, estimate_statistics
from sknfk.gradients import LogDensityModel, ParameterSpace, make_engine
from sknfk.solvers import (
    MatrixOperator,
    ScipyFace,
)
from sknfk.testing import check_operator

from ..cases import convnet, drawn_rows, rows


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
