"""The option ``model`` in all its forms; clones, pickles and hashes."""

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier, NeuralNetRegressor
from torch import nn

from sknfk import GradientFeatureClassifier, NFKernel, NFKTransformer
from sknfk.training import GaussianAutoencoder, fit_gaussian_autoencoder

from ..cases import any_width, convnet, mlp, rows, tied, tokens


class Net(nn.Module):
    def __init__(self, n_outputs=3):
        super().__init__()
        self.body, self.head = nn.LazyLinear(8), nn.Linear(8, n_outputs)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


def net(**options):
    options = {"module": Net, "max_epochs": 3, "lr": 0.1, "train_split": None, "verbose": 0, **options}
    return NeuralNetClassifier(criterion=nn.CrossEntropyLoss, **options)


X = rows(40).astype(np.float32)
y = np.arange(40) % 3


def fitted(model, y=None, **options):
    return NFKTransformer(model, 4, random_state=0, **options).fit(X, y)


class TestForms:
    def test_a_pretrained_module_is_taken_as_it_is(self):
        model = mlp()
        nfk = fitted(model)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), nfk.module_.parameters(), strict=True))
        assert nfk.module_ is not model

    def test_a_factory_class_is_built_for_the_width_and_seeded(self):
        class Linear(nn.Sequential):
            def __init__(self, n_features):
                super().__init__(nn.Linear(n_features, 4))

        first, second = fitted(Linear), fitted(Linear)
        other = NFKTransformer(Linear, 4, random_state=1).fit(X)
        assert np.array_equal(first.transform(X), second.transform(X))
        assert not np.array_equal(first.transform(X), other.transform(X))

    def test_a_skorch_net_is_cloned_and_trained_on_y(self):
        trained = fitted(net(), y)
        other = fitted(net(), y[::-1].copy())
        assert not np.allclose(trained.transform(X), other.transform(X))
        by_hand = net()
        assert not by_hand.initialized_

    def test_a_module_instance_inside_a_skorch_net_stays_untrained(self):
        module = mlp().float()
        before = copy.deepcopy(module.state_dict())
        fitted(net(module=module), y)
        assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())

    def test_a_fitted_skorch_net_is_refitted_with_a_warning(self):
        ready = net().fit(X, y)
        before = copy.deepcopy(ready.module_.state_dict())
        with pytest.warns(UserWarning, match="FrozenEstimator"):
            fitted(ready, y)
        assert all(torch.equal(before[k], v) for k, v in ready.module_.state_dict().items())

    def test_a_frozen_net_is_used_as_it_was_fitted(self):
        ready = net().fit(X, y)
        nfk = fitted(FrozenEstimator(ready))
        assert all(torch.equal(a, b) for a, b in zip(ready.module_.parameters(), nfk.module_.parameters(), strict=True))

    def test_unlabelled_rows_are_left_out_of_a_classifiers_training(self):
        labelled = np.arange(40) < 25
        partly = np.where(labelled, y, -1)
        nfk = fitted(net(max_epochs=1), partly)
        with torch.random.fork_rng():
            torch.manual_seed(int(np.random.RandomState(0).randint(np.iinfo(np.int32).max)))
            by_hand = net(max_epochs=1).fit(X[labelled], y[labelled])
        for found, expected in zip(nfk.module_.parameters(), by_hand.module_.parameters(), strict=True):
            torch.testing.assert_close(found, expected.detach())

    def test_a_regression_net_is_trained_on_numbers(self):
        regressor = NeuralNetRegressor(Net, module__n_outputs=1, max_epochs=2, train_split=None, verbose=0)
        nfk = NFKTransformer(regressor, 4, density="output", random_state=0).fit(X, X[:, 0])
        assert nfk.transform(X).shape == (40, 4)

    def test_none_is_a_gaussian_autoencoder_of_the_standardised_rows(self):
        nfk = fitted(None)
        assert isinstance(nfk.module_, GaussianAutoencoder)
        shifted = NFKTransformer(n_components=4, random_state=0).fit(X * 100 + 7)
        np.testing.assert_allclose(shifted.transform(X * 100 + 7), nfk.transform(X), rtol=0.02, atol=0.02)

    def test_the_gaussian_autoencoder_learns(self):
        rows_ = torch.from_numpy(rows(200, 3)) @ torch.from_numpy(rows(3, 8, seed=1))
        trained = fit_gaussian_autoencoder(rows_, seed=0)
        untrained = GaussianAutoencoder(8).double()
        untrained.mean.copy_(trained.mean)
        untrained.inverse_std.copy_(trained.inverse_std)
        with torch.no_grad():  # mean log-densities, both negative
            assert float(trained(rows_).mean()) > 0.5 * float(untrained(rows_).mean())

    @pytest.mark.parametrize("estimator", [NFKTransformer, NFKernel, GradientFeatureClassifier])
    @pytest.mark.parametrize("model", [make_pipeline(StandardScaler(), net()), LogisticRegression()])
    def test_an_estimator_that_is_no_net_is_refused(self, model, estimator):
        with pytest.raises(TypeError, match=f"`model` must be a torch module.* Got {type(model).__name__}; pass the"):
            estimator(model).fit(X, y)

    @pytest.mark.parametrize("estimator", [NFKTransformer, NFKernel, GradientFeatureClassifier])
    @pytest.mark.parametrize("compiled", [torch.jit.script, lambda model: torch.jit.trace(model, torch.zeros(2, 5))])
    @pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
    def test_a_module_of_torch_jit_is_refused_also_as_a_layer(self, compiled, estimator):
        whole, layer = compiled(mlp().float()), nn.Sequential(nn.Flatten(), compiled(mlp().float()))
        for model, which in ((whole, "It"), (layer, "Layer '1'")):
            with pytest.raises(TypeError, match=f"must be a module of Python code. {which} is compiled"):
                estimator(model).fit(X, y)

    @pytest.mark.parametrize("model", [3, "resnet", np.zeros(3)])
    def test_what_is_no_model_is_refused(self, model):
        with pytest.raises(ValueError, match="The 'model' parameter of NFKTransformer must be"):
            fitted(model)


class TestCloneAndPickle:
    def test_clones_share_a_pretrained_module(self):
        model = mlp()
        original = NFKTransformer(model, 4)
        assert clone(original).model is model
        assert clone(make_pipeline(original))[0].model is model
        assert original.model is model

    def test_clones_of_a_fitted_estimator_are_unfitted_and_leave_it_fitted(self):
        nfk = fitted(mlp())
        assert not hasattr(clone(nfk), "components_")
        assert nfk.transform(X).shape == (40, 4)

    def test_cross_validation_with_processes_serves_a_module(self):
        model = any_width().float()
        pipe = make_pipeline(NFKTransformer(model, 4, random_state=0), LogisticRegression())
        one, two = (cross_val_score(pipe, X, y, cv=2, n_jobs=n_jobs) for n_jobs in (1, 2))
        assert np.array_equal(one, two)

    @pytest.mark.parametrize("make", [mlp, convnet, tied, tokens])
    def test_a_pickled_fit_transforms_to_the_same_bits(self, make):
        X = {convnet: rows(12, 1, 8, 8), tokens: np.random.default_rng(0).integers(0, 11, (12, 5))}.get(make, rows(12))
        nfk = NFKTransformer(make(), 4, random_state=0).fit(X)
        loaded = pickle.loads(pickle.dumps(nfk))
        assert np.array_equal(loaded.transform(X), nfk.transform(X))
        assert np.array_equal(copy.deepcopy(nfk).transform(X), nfk.transform(X))

    def test_a_pickle_holds_no_torch_storage_so_it_loads_without_cuda(self):
        text = pickle.dumps(fitted(mlp()))
        assert b"_rebuild_tensor_v2" not in text and b"FloatStorage" not in text

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
    def test_a_fit_that_was_made_on_another_device_loads_on_the_cpu(self):
        nfk = fitted(mlp())
        expected = nfk.transform(X)
        nfk.device = "cuda"  # as if the fit had been made there
        loaded = pickle.loads(pickle.dumps(nfk))
        assert np.array_equal(loaded.transform(X), expected)

    def test_ties_bfloat16_and_plain_tensors_survive_a_pickle(self):
        model = tied()
        model.table = torch.arange(3.0)
        model.register_buffer("coarse", torch.tensor(3.0).bfloat16())
        loaded = pickle.loads(pickle.dumps(NFKTransformer(model))).model
        assert loaded.second.weight is loaded.first.weight
        assert torch.equal(loaded.table, model.table) and torch.equal(loaded.coarse, model.coarse)
        assert not loaded.first.weight.is_meta


class TestHash:
    def test_equal_weights_hash_alike_wherever_they_sit_and_others_do_not(self):
        model = convnet()
        twin = copy.deepcopy(model)
        assert joblib.hash(NFKTransformer(model)) == joblib.hash(NFKTransformer(twin))
        assert joblib.hash({"inner": [model]}) == joblib.hash({"inner": [twin]})
        assert joblib.hash(make_pipeline(NFKTransformer(model))) == joblib.hash(make_pipeline(NFKTransformer(twin)))
        with torch.no_grad():
            twin[0].weight[0, 0, 0, 0] += 1e-12
        assert joblib.hash(NFKTransformer(model)) != joblib.hash(NFKTransformer(twin))

    def test_training_flags_do_not_count_and_buffers_do(self):
        model, twin = convnet().eval(), convnet().train()
        assert joblib.hash(NFKTransformer(model)) == joblib.hash(NFKTransformer(twin))
        twin[1].running_mean += 1
        assert joblib.hash(NFKTransformer(model)) != joblib.hash(NFKTransformer(twin))

    def test_the_hash_is_the_same_in_another_process(self):
        code = (
            "import joblib; from sknfk import NFKTransformer; from tests.cases import convnet;"
            "print(joblib.hash(NFKTransformer(convnet())))"
        )
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == joblib.hash(NFKTransformer(convnet()))

    def test_torch_tensors_hash_by_content(self):
        assert joblib.hash(torch.arange(4)) == joblib.hash(torch.arange(4).clone())
        assert joblib.hash(torch.arange(4)) != joblib.hash(torch.arange(4).float())
        assert joblib.hash(torch.zeros(2, 2)) != joblib.hash(torch.zeros(4))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float16, torch.complex64, torch.bool])
    @pytest.mark.parametrize("shape", [(), (3, 2)])
    def test_tensors_of_every_dtype_hash_by_content(self, dtype, shape):
        one = torch.ones(shape).to(dtype)
        assert joblib.hash(one) == joblib.hash(one.clone())
        assert joblib.hash(one) != joblib.hash(torch.zeros(shape).to(dtype))

    def test_conjugated_and_transposed_tensors_hash_as_what_they_hold(self):
        z = torch.tensor([[1 + 2j, 3j], [4 + 0j, 5 - 1j]])
        assert joblib.hash(z.conj()) == joblib.hash(z.conj().resolve_conj())
        assert joblib.hash(z.conj()) != joblib.hash(z)

    def test_sparse_tensors_still_hash(self):
        assert len(joblib.hash(torch.eye(3).to_sparse())) == 32
