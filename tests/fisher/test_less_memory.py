"""Where memory gives out, fewer rows are worked on at once, and the result is the same."""

import numpy as np
import pytest
import torch

from sknfk import NFKTransformer
from sknfk.batches import Batches
from sknfk.densities import Classifier
from sknfk.fisher import FisherVectors, GradientCache, RangeSample, estimate_moments, estimate_statistics, gram_matrix
from sknfk.gradients import DenseBlock, LayerwiseEngine, LogDensityModel, ParameterSpace, make_engine

from ..cases import FLOAT32_RTOL, FLOAT64_RTOL, convnet, rows

CPU = torch.device("cpu")
N, B, L = 29, 8, 3
SPACE = ParameterSpace.of(convnet())
P = SPACE.n_parameters

ERRORS = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "torch on the CPU": RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"),
    "Python": MemoryError(),
}


class Scarce:
    """An engine whose memory gives out: for more than some rows, or at one call."""

    name = forming = "scarce"
    decided = None

    def __init__(self, most=None, at_call=None, product=None, error=ERRORS["CUDA"]):
        model = convnet()
        self.engine = make_engine("vmap", LogDensityModel(model, Classifier(), SPACE))
        self.most, self.at_call, self.product, self.error = most, at_call, product, error
        self.sizes: list[int] = []

    def __call__(self, x):
        self.sizes.append(len(x))
        fails = len(self.sizes) == self.at_call or (self.most is not None and len(x) > self.most)
        if fails and self.product is None:
            raise self.error
        block = DenseBlock(self.engine(x).rows())
        return FailingBlock(block.gradients, self.product, self.error) if fails else block


class FailingBlock(DenseBlock):
    """Formed, but a product with it is too much."""

    def __init__(self, gradients, product, error):
        super().__init__(gradients)
        self.product, self.error = product, error

    def matmat(self, W):
        if self.product == "matmat":
            raise self.error
        return super().matmat(W)

    def rmatmat(self, Y, add_to=None):
        if self.product == "rmatmat":
            if add_to is not None:
                add_to.add_(1.0)  # half done
            raise self.error
        return super().rmatmat(Y, add_to)

    def rows(self, out=None):
        if self.product == "rows":
            raise self.error
        return super().rows(out)


def batches():
    return Batches(rows(N, 1, 8, 8), B, CPU, torch.float64, (1, 8, 8))


def random(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def products(engine, with_cache=False):
    """Every result of a visit, by its name."""
    given = batches()
    cache = GradientCache(engine, given, P, torch.float64) if with_cache else None
    sample = RangeSample(random(P, L))
    moments = estimate_moments(engine, given, SPACE, sample, cache)
    statistics = estimate_statistics(moments)
    scale = statistics.scale("diag", 1e-3)
    vectors = FisherVectors(engine, given, statistics.mean_score, scale, torch.float64, cache)
    gram, swept = vectors.sweep(random(P, L))
    found = {
        "mean": moments.mean,
        "mean_square": moments.mean_square,
        "start": sample.finish(vectors.mean_score, vectors.scale),
        "matmat": vectors.matmat(random(P, L)),
        "rmatmat": vectors.rmatmat(random(N, L)),
        "gram of a sweep": gram,
        "sweep": swept,
        "squared_norms": vectors.squared_norms(),
        "gram": gram_matrix(vectors),
        "rows": vectors.rows(),
    }
    return found, given


def assert_same(found, expected):
    for name, value in expected.items():
        error = float((found[name] - value).norm() / value.norm())
        assert error < FLOAT64_RTOL, name


@pytest.mark.parametrize("with_cache", [False, True])
@pytest.mark.parametrize("most", [1, 3, 5])
@pytest.mark.parametrize("error", ERRORS)
def test_fewer_rows_at_once_give_the_same_and_the_number_is_remembered(error, most, with_cache):
    expected, _ = products(Scarce(), with_cache)
    engine = Scarce(most, error=ERRORS[error])
    found, given = products(engine, with_cache)
    assert_same(found, expected)
    assert given.limit.n_rows <= most
    assert sum(size > most for size in engine.sizes) <= 3  # 8, 4, 2: each size fails once


@pytest.mark.parametrize("product", [None, "matmat", "rmatmat"])
@pytest.mark.parametrize("at_call", range(1, 13))
def test_a_failure_at_any_batch_of_the_first_passes_changes_nothing(at_call, product):
    expected, _ = products(Scarce())
    found, given = products(Scarce(at_call=at_call, product=product))
    assert_same(found, expected)
    # The last batch has five rows; the third pass is V W, which needs no J^T Y.
    expected_limit = None if product == "rmatmat" and at_call > 8 else 4 if at_call % 4 or product else 3
    assert given.limit.n_rows == expected_limit


@pytest.mark.parametrize("product", [None, "rmatmat"])
def test_one_row_that_is_too_much_is_said_in_words(product):
    with pytest.raises(MemoryError, match="A single example must fit the device's memory"):
        products(Scarce(most=0, product=product))


def test_another_error_is_not_tried_again():
    engine = Scarce(at_call=3, error=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        products(engine)
    assert len(engine.sizes) == 3


@pytest.mark.parametrize("cache", [None, "ram"])
def test_a_fit_and_a_transform_keep_promise_one(cache, monkeypatch):
    X, form = rows(90, 1, 8, 8).astype(np.float32), LayerwiseEngine.__call__

    def nfk():
        options = {"solver": "krylov", "engine": "layerwise", "batch_size": 32, "gradient_cache": cache}
        return NFKTransformer(convnet().float(), 4, random_state=0, tol=1e-5, **options)

    expected = nfk().fit(X).transform(X)

    def scarce(self, x):
        if len(x) > 10:
            raise ERRORS["CUDA"]
        return form(self, x)

    monkeypatch.setattr(LayerwiseEngine, "__call__", scarce)
    found = nfk().fit(X)
    assert found.batch_size_ == 8
    embedded = found.transform(X)
    assert np.linalg.norm(embedded - expected) < FLOAT32_RTOL * np.linalg.norm(expected)
