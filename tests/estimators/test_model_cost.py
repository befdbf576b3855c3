"""What one example costs a model, counted without leaving anything behind."""

import gc
import warnings

import torch

from sknfk import NFKTransformer
from sknfk.densities import Classifier
from sknfk.estimators._model_cost import measure_model
from sknfk.gradients import LogDensityModel, ParameterSpace

from ..cases import convnet, rows


def n_tensors():
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gc meets torch's deprecated names
        return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())


def test_activations_are_what_the_backward_pass_waits_for():
    layers = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)).eval()
    model = LogDensityModel(layers, Classifier(), ParameterSpace.of(layers))
    # x, tanh's output and the logits; logsumexp saves its own output and its input.
    cost = measure_model(model, torch.zeros(8, 5))
    assert 4 * (5 + 7 + 3) <= cost.activation_bytes <= 4 * (2 * 5 + 2 * 7 + 3 * 3)


def test_activations_are_counted_where_memory_is_used_again():
    wide = [torch.nn.Linear(64, 64) for _ in range(6)]
    layers = torch.nn.Sequential(*(part for layer in wide for part in (layer, torch.nn.Tanh()))).eval()
    model = LogDensityModel(layers, Classifier(), ParameterSpace.of(layers))
    assert measure_model(model, torch.zeros(8, 64)).activation_bytes >= 6 * 64 * 4


def test_fits_leave_no_tensor_behind():
    X = rows(40, 1, 8, 8)

    def fit(seed):
        NFKTransformer(convnet(), 3, solver="krylov", random_state=seed).fit(X)

    fit(0)
    before = n_tensors()
    for seed in range(5):
        fit(seed)
    assert n_tensors() == before
