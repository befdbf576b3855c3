"""Gradients kept in bfloat16: what is rounded, what is not, and that no visit sees another row."""

import pytest
import torch
from torch import nn

from sknfk.batches import Batches
from sknfk.densities import Classifier, Output
from sknfk.fisher import FisherVectors, GradientCache, cache_bytes, estimate_moments, estimate_statistics, gram_matrix
from sknfk.gradients import DenseBlock, LogDensityModel, ParameterSpace, make_engine

from ..cases import FLOAT32_RTOL, FLOAT64_RTOL, convnet, mlp, rows

CPU = torch.device("cpu")
N_ROWS, N_COLUMNS = 45, 4
SPACE = ParameterSpace(("weight",), (torch.Size([6]),))
# bfloat16 keeps 8 bits of a number: rounding moves it by at most half of the last of them.
BFLOAT16_RTOL = 2**-8
# Variances from second moments, where these are 1e8 times as large.
MOMENT_RTOL = 1e-7
# Products of bfloat16 numbers: two roundings of 2^-9, and one of the result.
BFLOAT16_PRODUCT_RTOL = 1e-2


class Given:
    """An engine whose gradients are the rows of X themselves."""

    name = forming = "given"

    def __init__(self):
        self.n_calls = 0

    def __call__(self, x):
        self.n_calls += 1
        return DenseBlock(x.clone())


def given(J, batch_size=8, where="device", **options):
    batches = Batches(J, batch_size, CPU, J.dtype, tuple(J.shape[1:]))
    return GradientCache(Given(), batches, J.shape[1], J.dtype, where, **options)


def of_convnet(X, batch_size=8, **options):
    """A cache of a model's float32 gradients, what fills it, and its parameters."""
    model = convnet().float()
    space = ParameterSpace.of(model)
    engine = make_engine("layerwise", LogDensityModel(model, Classifier(), space))
    batches = Batches(X, batch_size, CPU, torch.float32, X.shape[1:])
    return GradientCache(engine, batches, space.n_parameters, torch.float32, **options), engine, batches, space


def seen(cache):
    """What a visit hands out, (N, P), in its dtype."""
    return torch.cat([block.rows().clone() for block in cache.blocks()])


def gaussian(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def nearly_constant(n_rows=N_ROWS, n_parameters=6):
    """Gradients of spread 1, but for the second: mean 1000, spread 0.1."""
    J = gaussian(n_rows, n_parameters, dtype=torch.float64)
    J[:, 1] = 1000 + 0.1 * J[:, 1]
    return J.float()


def relative(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("in_bfloat16", [False, True])
@pytest.mark.parametrize("J", [gaussian(N_ROWS, 6), nearly_constant()], ids=["ordinary", "nearly constant"])
def test_every_visit_sees_the_same_rounded_gradients_the_first_included(J, in_bfloat16):
    cache = given(J, products_in_bfloat16=in_bfloat16)
    first, second, third = seen(cache), seen(cache), seen(cache)
    assert torch.equal(first, second) and torch.equal(first, third)
    assert torch.equal(first, first.bfloat16().to(first.dtype))
    assert not torch.equal(first.float(), J - cache.pivot)  # they are rounded


@pytest.mark.parametrize(("batch_size", "n_calls"), [(64, 4), (32, 7 + 2)])
def test_gradients_are_computed_at_the_first_visit_alone_and_those_of_64_rows_before_it(batch_size, n_calls):
    cache = given(gaussian(200, 6), batch_size)
    for _ in range(3):
        seen(cache)
    assert cache.engine.n_calls == n_calls


def test_a_cache_filled_anew_is_bitwise_the_same():
    X = rows(N_ROWS, 1, 8, 8)
    one, other = of_convnet(X)[0], of_convnet(X)[0]
    assert torch.equal(seen(one), seen(other))
    assert torch.equal(one.pivot, other.pivot)


def test_a_visit_that_was_broken_off_does_not_count_as_the_first():
    J = gaussian(N_ROWS, 6)
    cache = given(J)
    next(iter(cache.blocks()))
    assert torch.equal(seen(cache), seen(given(J)))


@pytest.mark.parametrize("factor", [1.0, 1e-30, 1e30])
def test_entries_are_the_gradients_less_the_pivot_to_eight_bits_whatever_the_scale_of_a_row(factor):
    J = nearly_constant()
    J[1::2] *= factor  # the exponents of float32 reach from 1e-38 to 3e38
    cache = given(J)
    found = seen(cache)
    exact = J - cache.pivot
    assert bool(((found - exact).abs() <= BFLOAT16_RTOL * exact.abs()).all())


@pytest.mark.parametrize("in_bfloat16", [False, True])
def test_the_device_the_host_and_a_file_give_bitwise_equal_products(tmp_path, in_bfloat16):
    J, W, Y = gaussian(N_ROWS, 6), gaussian(6, N_COLUMNS, seed=1), gaussian(N_ROWS, N_COLUMNS, seed=2)
    found = []
    for where in ("device", "ram", str(tmp_path / "rows")):
        cache = given(J, where=where, products_in_bfloat16=in_bfloat16)
        first = visited(cache.blocks(), W, Y)
        V = FisherVectors(cache.engine, cache.batches, J.double().mean(0), torch.ones(6), J.dtype, cache)
        found.append((*first, *V.sweep(W), V.matmat(W), V.rmatmat(Y), V.gram()))
    assert (tmp_path / "rows").stat().st_size == cache_bytes(*J.shape)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


def test_products_are_those_of_the_rounded_gradients_from_both_sides():
    cache, engine, batches, space = of_convnet(rows(N_ROWS, 1, 8, 8))
    statistics = estimate_statistics(estimate_moments(engine, batches, space, cache=cache))
    z, d = statistics.mean_score, statistics.scale("diag", 1e-3)
    V = FisherVectors(engine, batches, z, d, torch.float32, cache)
    exact = (seen(cache).double() + cache.pivot - z) * d
    W, Y = gaussian(space.n_parameters, N_COLUMNS), gaussian(N_ROWS, N_COLUMNS)
    gram, product = V.sweep(W)
    assert gram.dtype == torch.float64
    for found, expected in [
        (V.matmat(W), exact @ W.double()),
        (V.rmatmat(Y), exact.T @ Y.double()),
        (gram, W.double().T @ exact.T @ exact @ W.double()),
        (product, exact.T @ exact @ W.double()),
        (V.rows(), exact),
        (V.squared_norms(), exact.square().sum(1)),
        (V.gram(), exact @ exact.T),
        (gram_matrix(V, max_bytes=1), exact @ exact.T),
        (V.slice(11, 30).rows(), exact[11:30]),
    ]:
        assert relative(found, expected) < FLOAT32_RTOL


def test_a_slice_of_a_cache_that_was_never_visited_fills_it():
    J = nearly_constant()
    cache = given(J, batch_size=N_ROWS)
    assert torch.equal(seen(cache.slice(5, 17)), seen(given(J, batch_size=N_ROWS))[5:17])
    seen(cache)
    assert cache.engine.n_calls == 1


def kept_information(J, pivot):
    """Relative error of whitened, centred rows after bfloat16, with a pivot taken off before or not."""
    exact = J.double()
    rounded = (J - pivot).bfloat16().double() + pivot.double()
    whitened = (exact - exact.mean(0)) / exact.std(0)
    return relative((rounded - exact.mean(0)) / exact.std(0), whitened)


@pytest.mark.parametrize("batch_size", [1, 2, 8, 64])
def test_a_nearly_constant_parameter_keeps_its_information_which_rounding_alone_would_destroy(batch_size):
    J = nearly_constant()
    cache = given(J, batch_size)
    moments = estimate_moments(cache.engine, cache.batches, SPACE, cache=cache)
    statistics = estimate_statistics(moments)
    d = statistics.scale("diag", 0.0)
    found = FisherVectors(cache.engine, cache.batches, statistics.mean_score, d, J.dtype, cache).rows()
    exact = (J.double() - J.double().mean(0)) * (J.double() - J.double().mean(0)).square().mean(0).rsqrt()
    assert relative(found, exact) < BFLOAT16_RTOL
    assert relative(found[:, 1], exact[:, 1]) < BFLOAT16_RTOL
    # The spacing of bfloat16 numbers at 1000 is 4, the spread 0.1.
    assert kept_information(J[:, 1:2], torch.zeros(1)) > 1
    assert kept_information(J[:, 1:2], cache.pivot[1:2]) < BFLOAT16_RTOL


def test_ordinary_gradients_have_no_pivot_so_batches_and_order_do_not_change_what_is_kept():
    J = gaussian(N_ROWS, 6)
    expected = seen(given(J, batch_size=N_ROWS))
    order = torch.randperm(N_ROWS, generator=torch.Generator().manual_seed(0))
    for batch_size in (1, 2, 8, 32):
        cache = given(J, batch_size)
        assert torch.equal(seen(cache), expected)
        assert not bool(cache.pivot.any())
    assert torch.equal(seen(given(J[order])), expected[order])


def test_a_pivot_is_that_of_the_first_rows_whatever_the_batch_size():
    J = nearly_constant(100)
    expected = given(J, batch_size=100)
    kept = seen(expected)
    assert float(expected.pivot[1]) == pytest.approx(float(J[:64, 1].double().mean()), rel=FLOAT32_RTOL)
    for batch_size in (1, 2, 8, 64):
        cache = given(J, batch_size)
        assert torch.equal(seen(cache), kept) and torch.equal(cache.pivot, expected.pivot)


def test_fisher_vectors_know_the_pivot_of_a_cache_that_was_never_visited():
    J = nearly_constant().double()
    cache = given(J)
    V = FisherVectors(cache.engine, cache.batches, J.mean(0), torch.ones(6), J.dtype, cache)
    assert relative(V.rows(), J - J.mean(0)) < BFLOAT16_RTOL


def test_one_row_is_kept_as_it_is():
    J = gaussian(1, 6)
    assert torch.equal(seen(given(J)), J.bfloat16().float())


@pytest.mark.parametrize("J", [gaussian(N_ROWS, 6), nearly_constant()], ids=["ordinary", "nearly constant"])
def test_moments_of_a_cached_pass_are_those_of_the_rounded_gradients_with_the_pivot_added(J):
    cache = given(J)
    moments = estimate_moments(cache.engine, cache.batches, SPACE, cache=cache)
    kept = seen(cache).double() + cache.pivot.double()
    torch.testing.assert_close(moments.mean, kept.mean(0), rtol=FLOAT64_RTOL, atol=1e-12)
    torch.testing.assert_close(moments.mean_square, kept.square().mean(0), rtol=FLOAT64_RTOL, atol=0)
    assert moments.n_rows == N_ROWS


@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("value", [1.0, 0.1, 1e6 / 3])
def test_a_dead_parameter_is_dead_with_a_cache_too(value, batch_size):
    J = gaussian(N_ROWS, 6)
    J[:, 2] = value
    cache = given(J, batch_size)
    statistics = estimate_statistics(estimate_moments(cache.engine, cache.batches, SPACE, cache=cache))
    assert (statistics.information == 0).tolist() == [False, False, True, False, False, False]


def test_a_models_constant_gradient_is_dead_with_a_cache_too():
    model, X = mlp(5, 1).float(), rows(30)
    space = ParameterSpace.of(model)
    engine = make_engine("layerwise", LogDensityModel(model, Output(), space))
    batches = Batches(X, 7, CPU, torch.float32, (5,))
    cache = GradientCache(engine, batches, space.n_parameters, torch.float32)
    statistics = estimate_statistics(estimate_moments(engine, batches, space, cache=cache))
    assert float(statistics.information[-1]) == 0 and statistics.dead_fraction == pytest.approx(1 / space.n_parameters)


def visited(blocks, W, Y):
    """J W and J^T Y of the first visit, whose batches are those of the engine."""
    product, total = [], torch.zeros(W.shape[0], Y.shape[1])
    for block, y in zip(blocks, Y.split(8), strict=True):
        product.append(block.matmat(W))
        block.rmatmat(y, add_to=total)
    return torch.cat(product), total


def test_products_in_bfloat16_are_those_of_float32_to_a_hundredth_and_sums_of_blocks_are_float32():
    J, W, Y = gaussian(300, 40), gaussian(40, N_COLUMNS, seed=1), gaussian(300, N_COLUMNS, seed=2)
    rounded, plain = given(J, products_in_bfloat16=True), given(J)
    for found, expected in zip(visited(rounded.blocks(), W, Y), visited(plain.blocks(), W, Y), strict=True):
        assert found.dtype == torch.float32
        assert 0 < relative(found, expected) < BFLOAT16_PRODUCT_RTOL
    of_rounded, of_plain = (
        FisherVectors(cache.engine, cache.batches, torch.zeros(40), torch.ones(40), J.dtype, cache)
        for cache in (rounded, plain)
    )
    for name, argument in [("matmat", W), ("rmatmat", Y)]:
        found, expected = (getattr(V, name)(argument) for V in (of_rounded, of_plain))
        assert found.dtype == torch.float32
        assert 0 < relative(found, expected) < BFLOAT16_PRODUCT_RTOL
    for found, expected in zip(of_rounded.sweep(W), of_plain.sweep(W), strict=True):
        assert relative(found, expected) < BFLOAT16_PRODUCT_RTOL


def test_a_sum_of_many_blocks_does_not_stop_growing_as_one_in_bfloat16_would():
    J = torch.tensor([[1.0], [3.0]]).repeat(1000, 1)
    cache = given(J, batch_size=1, products_in_bfloat16=True)
    V = FisherVectors(cache.engine, cache.batches, torch.zeros(1), torch.ones(1), J.dtype, cache)
    assert not bool(cache.pivot.any())
    assert float(V.rmatmat(torch.ones(2000, 1))) == 4000  # 512 + 1 is 512 in bfloat16
    assert float(V.sweep(torch.ones(1, 1))[1]) == 10_000


def test_a_cached_sweep_converts_its_probes_once_for_all_blocks():
    J, W = gaussian(100, 6), gaussian(6, 2)
    cache = given(J, products_in_bfloat16=True)
    products = [block.matmat(W) for block in cache.blocks()]
    assert relative(torch.cat(products), J @ W) < BFLOAT16_PRODUCT_RTOL
    other = gaussian(6, 2, seed=3)  # other probes are not taken for the last
    assert relative(torch.cat([block.matmat(other) for block in cache.blocks()]), J @ other) < BFLOAT16_PRODUCT_RTOL


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("reference", ["own", "other"])
def test_fisher_vectors_of_a_cache_are_the_rounded_gradients_less_the_mean_times_the_scale(center, reference):
    J, R = nearly_constant(), nearly_constant(20) + 0.3
    cache = given(J)
    own = estimate_moments(cache.engine, cache.batches, SPACE, cache=cache)
    other = estimate_moments(Given(), Batches(R, 8, CPU, R.dtype, (6,)), SPACE)
    statistics = estimate_statistics(own if reference == "own" else other, center=center)
    z, d = statistics.mean_score, statistics.scale("diag", 1e-3)
    V = FisherVectors(cache.engine, cache.batches, z, d, J.dtype, cache)
    rounded = seen(cache).double() + cache.pivot.double()
    assert relative(V.rows(), (rounded - z) * d) < FLOAT32_RTOL
    assert relative(V.rows(), (J.double() - z) * d) < BFLOAT16_RTOL
    trace = statistics.total_variance(own, d)
    assert trace == pytest.approx(float(((rounded - z) * d).square().sum(1).mean()), rel=MOMENT_RTOL)


@pytest.mark.parametrize("batch_size", [1, 64])
def test_an_embedding_table_and_a_bias_of_many_shapes_fill_every_column(batch_size):
    model = nn.Sequential(nn.Embedding(11, 4), nn.Flatten(), nn.Linear(20, 3))
    X = torch.arange(200).view(40, 5) % 11
    space = ParameterSpace.of(model)
    engine = make_engine("layerwise", LogDensityModel(model, Classifier(), space))
    batches = Batches(X, batch_size, CPU, None, (5,))
    cache = GradientCache(engine, batches, space.n_parameters, torch.float32)
    exact = torch.cat([engine(x).rows() for x in batches])
    assert relative(seen(cache) + cache.pivot, exact) < BFLOAT16_RTOL
