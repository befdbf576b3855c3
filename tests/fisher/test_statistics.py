"""Mean score, information and trace against their definitions on formed gradients."""

import numpy as np
import pytest
import torch
from torch import nn

from sknfk.batches import Batches
from sknfk.densities import Classifier, Output
from sknfk.fisher import FisherVectors, estimate_moments, estimate_statistics
from sknfk.gradients import LogDensityModel, ParameterSpace, make_engine

from ..cases import FLOAT64_RTOL, convnet, mlp, rows

CPU = torch.device("cpu")


def problem(model, X, batch_size=4, density=None):
    space = ParameterSpace.of(model)
    engine = make_engine("vmap", LogDensityModel(model, density or Classifier(), space))
    batches = Batches(X, batch_size, CPU, torch.float64, X.shape[1:])
    return engine, batches, space


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("center", [True, False])
def test_statistics_are_the_moments_of_the_formed_gradients(batch_size, center):
    X = rows(20, 1, 8, 8)
    engine, batches, space = problem(convnet(), X, batch_size)
    J = engine(torch.from_numpy(X)).rows()
    z = J.mean(0) if center else torch.zeros(J.shape[1], dtype=torch.float64)
    found = estimate_statistics(estimate_moments(engine, batches, space), center=center)
    information = (J - z).square().mean(0)
    live = found.information > 0
    torch.testing.assert_close(found.mean_score, z)
    torch.testing.assert_close(found.information[live], information[live], rtol=1e-8, atol=0)
    assert bool((information[~live] <= 1e-12 * J.square().mean(0)[~live]).all())


def test_a_constant_gradient_is_dead_and_scaled_to_zero():
    # The output bias of a discriminator has gradient 1 for every x: no information.
    engine, batches, space = problem(mlp(5, 1), rows(30), density=Output())
    statistics = estimate_statistics(estimate_moments(engine, batches, space))
    assert float(statistics.information[-1]) == 0
    assert float(statistics.scale("diag", 1e-3)[-1]) == 0
    assert float(statistics.scale("identity", 1e-3)[-1]) == 1
    assert statistics.dead_fraction == pytest.approx(1 / space.n_parameters)


def test_a_parameter_that_no_row_moves_is_dead():
    model = mlp(5, 3)
    with torch.no_grad():
        model[0].weight[0].zero_()
        model[2].weight[:, 0].zero_()  # hidden unit 0 reaches no output
    engine, batches, space = problem(model, rows(30))
    statistics = estimate_statistics(estimate_moments(engine, batches, space))
    assert bool((statistics.information[:5] == 0).all())
    assert bool(torch.isfinite(statistics.scale("diag", 0.0)).all())


@pytest.mark.parametrize("damping", [0.0, 1e-3, 0.5])
def test_scale_is_the_inverse_root_of_the_damped_information(damping):
    engine, batches, space = problem(mlp(), rows(30))
    statistics = estimate_statistics(estimate_moments(engine, batches, space))
    information = statistics.information
    expected = 1 / torch.sqrt(information + damping * information.mean())
    torch.testing.assert_close(statistics.scale("diag", damping), expected)


def test_damping_is_relative_so_rescaling_the_log_density_changes_nothing():
    X = rows(30)
    vectors = []
    for factor in (1.0, 1e4):

        class Scaled(nn.Module):
            def __init__(self, model, factor):
                super().__init__()
                self.inner, self.factor = model, factor

            def forward(self, x):
                return self.factor * torch.logsumexp(self.inner(x), 1)

        engine, batches, space = problem(Scaled(mlp(), factor), X, density=Output())
        statistics = estimate_statistics(estimate_moments(engine, batches, space))
        scale = statistics.scale("diag", 1e-3)
        vectors.append(FisherVectors(engine, batches, statistics.mean_score, scale, torch.float64).rows())
    torch.testing.assert_close(vectors[0], vectors[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fisher", ["diag", "identity"])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("reference", ["own", "other"])
def test_total_variance_is_the_mean_squared_length_of_the_fisher_vectors(fisher, center, reference):
    X = rows(25)
    engine, batches, space = problem(mlp(), X)
    moments = estimate_moments(engine, batches, space)
    other = batches if reference == "own" else Batches(rows(9, seed=1), 4, CPU, torch.float64, (5,))
    statistics = estimate_statistics(estimate_moments(engine, other, space), center=center)
    scale = statistics.scale(fisher, 1e-3)
    V = FisherVectors(engine, batches, statistics.mean_score, scale, torch.float64).rows()
    expected = float(V.square().sum(1).mean())
    assert statistics.total_variance(moments, scale) == pytest.approx(expected, rel=FLOAT64_RTOL)


def test_trace_counts_the_live_parameters_without_damping():
    engine, batches, space = problem(mlp(5, 1), rows(25), density=Output())
    moments = estimate_moments(engine, batches, space)
    statistics = estimate_statistics(moments)
    scale = statistics.scale("diag", 0.0)
    assert statistics.total_variance(moments, scale) == pytest.approx(space.n_parameters - 1, rel=1e-9)


def test_a_gradient_that_turns_infinite_later_in_the_data_names_its_layer():
    X = rows(30)
    X[20] = 1e200
    engine, batches, space = problem(nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 3)).double(), X)
    with (
        np.errstate(all="ignore"),
        pytest.raises(ValueError, match=r"That of '0\.weight' is NaN or infinite"),
    ):
        estimate_moments(engine, batches, space)
