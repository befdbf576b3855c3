"""What is refused of a model before anything heavy starts."""

import pytest
import torch
from torch import nn

from sknfk.densities import CallableDensity, Output
from sknfk.gradients import LogDensityModel, ParameterSpace, check_log_density

from ..cases import convnet, mlp, rows, seeded


def check(model, X, density=None):
    density = density or Output()
    check_log_density(LogDensityModel(model, density, ParameterSpace.of(model)), torch.from_numpy(X))


def test_a_well_behaved_model_passes():
    check(mlp(5, 1), rows(3))
    check(convnet(1), rows(3, 1, 8, 8))


def test_a_model_that_draws_random_numbers_is_refused():
    class Noisy(nn.Linear):
        def forward(self, x):
            return nn.functional.dropout(super().forward(x), 0.5, training=True)

    with pytest.raises(ValueError, match="same values for the same X"):
        check(seeded(lambda: nn.Sequential(Noisy(5, 40), nn.Linear(40, 1))), rows(3))


def test_a_model_that_mixes_the_examples_of_a_batch_is_refused():
    class Mixing(nn.Linear):
        def forward(self, x):
            return super().forward(x - x.mean(0))

    with pytest.raises(ValueError, match="treat the examples of a batch one by one"):
        check(seeded(lambda: Mixing(5, 1)), rows(3))


def test_a_model_that_cannot_evaluate_one_example_is_refused():
    model = seeded(
        lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 1))
    )
    with pytest.raises(ValueError, match="evaluate one example alone"):
        check(model, rows(3))


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="log-density must be finite"):
        check(mlp(5, 1), rows(3), CallableDensity(lambda m, x: m(x)[:, 0] / 0))


def test_gradients_that_are_not_finite_name_their_layer():
    class BadRoot(nn.Module):
        def __init__(self):
            super().__init__()
            self.good, self.bad = nn.Linear(5, 1), nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return self.good(x)[:, 0] + self.bad.sqrt()

    with pytest.raises(ValueError, match="That of 'bad' is NaN or infinite"):
        check(seeded(BadRoot), rows(3))


def test_a_log_density_without_a_path_to_the_parameters_is_refused():
    with pytest.raises(ValueError, match=r"must depend on the selected parameters.*'0\.weight'"):
        check(mlp(5, 1), rows(3), CallableDensity(lambda m, x: m(x)[:, 0].detach()))


class RandomSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.rand(())


def test_a_gradient_that_changes_from_call_to_call_is_refused():
    density = CallableDensity(lambda m, x: RandomSlope.apply(m(x)[:, 0]))
    with pytest.raises(ValueError, match="same gradient for the same X"):
        check(mlp(5, 1), rows(3), density)
