"""Densities against their closed forms."""

import numpy as np
import pytest
import torch
from torch import nn

from sknfk.densities import (
    Classifier,
    Density,
    Embedding,
    Langevin,
    Logit,
    LogProb,
    MultiLabel,
    Output,
    Sampled,
    Variational,
    select_density,
)

from ..cases import mlp, rows

LOGITS = torch.tensor([[1.0, -2.0, 0.5], [3.0, 3.0, 3.0]], dtype=torch.float64)


def test_classifier_is_the_logarithm_of_summed_exponentials():
    found = Classifier().log_density(nn.Identity(), LOGITS)
    torch.testing.assert_close(found, LOGITS.exp().sum(1).log())


@pytest.mark.parametrize("shape", [(4,), (4, 1), (4, 1, 1, 1)])
def test_classifier_takes_one_logit_f_as_the_pair_of_plus_and_minus_half_f(shape):
    f = torch.linspace(-3, 3, 4, dtype=torch.float64)
    found = Classifier().log_density(nn.Identity(), f.reshape(shape))
    torch.testing.assert_close(found, torch.log(2 * torch.cosh(f / 2)))


def test_classifier_with_one_logit_has_the_class_probabilities_of_a_sigmoid():
    f = torch.linspace(-3, 3, 4, dtype=torch.float64)
    positive = Logit(1).log_density(nn.Identity(), f) - Classifier().log_density(nn.Identity(), f)
    torch.testing.assert_close(positive.exp(), torch.sigmoid(f))


def test_classifier_free_energy_depends_on_the_gauge_of_the_logits():
    shift = torch.tensor([[5.0], [-1.0]], dtype=torch.float64)
    shifted = Classifier().log_density(nn.Identity(), LOGITS + shift)
    torch.testing.assert_close(shifted, Classifier().log_density(nn.Identity(), LOGITS) + shift[:, 0])


@pytest.mark.parametrize(("which", "expected"), [("argmax", [1.0, 3.0]), ("sum", [-0.5, 9.0]), (1, [-2.0, 3.0])])
def test_logit_reads_the_largest_the_sum_or_one_of_the_logits(which, expected):
    assert Logit(which).log_density(nn.Identity(), LOGITS).tolist() == expected


@pytest.mark.parametrize("density", [Output(), LogProb()])
def test_output_and_log_prob_return_the_only_column(density):
    assert density.log_density(nn.Identity(), torch.ones(3, 1)).shape == (3,)


def test_a_subclass_of_density_needs_only_log_density():
    class Energy(Density):
        def log_density(self, model, x):
            return -model(x).square().sum(1)

    assert select_density(Energy())[0].log_density(nn.Identity(), LOGITS).shape == (2,)


def test_auto_takes_two_or_more_columns_as_logits():
    density, reason = select_density("auto", mlp(5, 2), torch.zeros(3, 5, dtype=torch.float64))
    assert density == Classifier()
    assert "2 output columns" in reason


@pytest.mark.parametrize("flatten", [False, True])
def test_auto_takes_one_column_as_the_output_and_names_the_alternative(flatten):
    model = nn.Sequential(mlp(5, 1), nn.Flatten(0)) if flatten else mlp(5, 1)
    density, reason = select_density("auto", model, torch.zeros(3, 5, dtype=torch.float64))
    assert density == Output()
    assert "density='classifier'" in reason


@pytest.mark.parametrize("shape", [(3, 7, 5), (3, 4, 2, 2), (1, 5), ()])
def test_auto_refuses_hidden_states_and_says_what_to_return(shape):
    class Hidden(nn.Module):
        def forward(self, x):
            return torch.zeros(shape)

    with pytest.raises(
        ValueError, match=r"must return one scalar per row.*row of logits.*pass `density` as a callable"
    ):
        select_density("auto", Hidden(), torch.zeros(3, 5))


def prepared(density, model):
    return density.prepared(model, torch.from_numpy(rows(3)), torch.Generator())


@pytest.mark.parametrize("density", [Classifier(), MultiLabel()], ids=repr)
@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (nn.Softmax(1), r"probabilities \(they sum to 1\)"),
        (nn.LogSoftmax(1), r"log-probabilities \(they sum to 1\)"),
        (nn.Sigmoid(), r"probabilities \(of a sigmoid\)"),
    ],
    ids=repr,
)
def test_densities_of_logits_refuse_probabilities(density, last, kind):
    with pytest.raises(ValueError, match=f"must return logits. Its rows are {kind}; remove its last step"):
        prepared(density, nn.Sequential(mlp(), last))


@pytest.mark.parametrize("density", [Classifier(), MultiLabel(), Sampled(Classifier(), Langevin())], ids=repr)
def test_densities_of_one_logit_refuse_a_sigmoid(density):
    with pytest.raises(ValueError, match=r"must return logits. Its rows are probabilities \(of a sigmoid\)"):
        prepared(density, nn.Sequential(mlp(5, 1), nn.Sigmoid(), nn.Flatten(0)))


class Squashed(nn.Module):
    """Logits between 0 and 1, by a sigmoid that is not the last step or by none."""

    def __init__(self, n_columns, squash):
        super().__init__()
        self.net, self.squash = mlp(5, n_columns), squash

    def forward(self, x):
        return self.squash(self.net(x))


@pytest.mark.parametrize("density", [Classifier(), MultiLabel()], ids=repr)
@pytest.mark.parametrize("n_columns", [1, 3])
@pytest.mark.parametrize(
    "squash",
    [
        lambda y: 0.5 + 0.1 * torch.tanh(y),
        lambda y: 0.5 * torch.sigmoid(y),
        lambda y: torch.logit(torch.sigmoid(y)),
        lambda y: 0 * y,
        lambda y: 0 * y + 1,
    ],
    ids=["by no sigmoid", "by half a sigmoid", "undone", "zeros", "ones"],
)
def test_logits_between_0_and_1_are_not_taken_for_probabilities(density, n_columns, squash):
    assert prepared(density, Squashed(n_columns, squash)) is density


@pytest.mark.parametrize(
    ("density", "text"),
    [(Classifier(), "Classifier()"), (Logit("sum"), "Logit(which='sum')"), (Output(), "Output()")],
)
def test_repr_names_the_density_and_its_settings(density, text):
    assert repr(density) == text


@pytest.mark.parametrize(
    "make", [lambda n: Embedding(n), lambda n: LogProb(n_draws=n), lambda n: Variational(n_draws=n)]
)
@pytest.mark.parametrize("number", ["layer", 2.0, 0, -2])
def test_a_number_of_rows_or_draws_must_be_an_integer(make, number):
    with pytest.raises(ValueError, match=rf"must be (a number of rows|an (even )?integer).*Got {number!r}"):
        make(number)


def test_a_number_of_rows_or_draws_may_be_numpys():
    assert Embedding(np.int64(2)).projection == Variational(n_draws=np.int64(2)).n_draws == 2
