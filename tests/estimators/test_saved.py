"""Fitted transformers in files: the same after loading, and refused where model or file are others."""

import json
import pickle
import random
import tracemalloc

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from torch import nn
from torch.utils.data import TensorDataset

from sknfk import NFKTransformer
from sknfk.densities import Discriminator, LogProb, Variational
from sknfk.estimators import _access
from sknfk.exceptions import DamagedFileError
from sknfk.fisher import _vectors
from sknfk.persistence import read_arrays

from ..cases import convnet, mlp, rows, seeded
from ..memory import peak_bytes
from .test_model_statistics import Autoencoder, generator

pytest.importorskip("safetensors")


def negative_square(model, x):
    return -model(x).square().sum(1)


class Net(nn.Module):
    def __init__(self, n_features=5):
        super().__init__()
        self.layer = nn.Linear(n_features, 3)

    def forward(self, x):
        return self.layer(x)


CASES = {
    "a classifier": (lambda: mlp(), {}, {}),
    "float32": (lambda: mlp().float(), {"normalize": "l2", "whiten": True}, {}),
    "a sketch": (lambda: mlp(), {"solver": "sketch", "sketch_width": 16}, {}),
    "some parameters": (lambda: mlp(), {"parameters": ["0.*"]}, {}),
    "a rule for parameters": (lambda: mlp(), {"parameters": lambda name, p: p.ndim > 1}, {}),
    "statistics of an array": (lambda: mlp(), {"statistics": rows(9)}, {}),
    "an autoencoder": (lambda: seeded(Autoencoder), {"density": Variational(likelihood="gaussian")}, {}),
    "noise": (lambda: mlp(5, 1), {"density": LogProb(dequantize="add")}, {}),
    "a function": (lambda: mlp(), {"density": negative_square}, {"density": negative_square}),
    "networks": (
        lambda: mlp(5, 1),
        {"density": Discriminator(generator(), latent_dim=3)},
        {"density": Discriminator(generator(), latent_dim=3)},
    ),
}


def test_settings_in_numpy_scalars_are_saved(tmp_path):
    options = {"tol": np.float32(1e-3), "damping": np.float64(1e-2), "random_state": np.int64(7), "whiten": np.bool_(1)}
    X = rows(40)
    nfk = NFKTransformer(mlp(), np.int64(4), **options).fit(X)
    nfk.save(tmp_path / "fitted")
    loaded = NFKTransformer.load(tmp_path / "fitted", mlp())
    assert (loaded.n_components, loaded.damping, loaded.random_state, loaded.whiten) == (4, 1e-2, 7, True)
    np.testing.assert_array_equal(loaded.transform(X), nfk.transform(X))


@pytest.mark.parametrize("name", CASES)
def test_a_loaded_transformer_is_the_one_that_was_saved(name, tmp_path):
    make, options, given = CASES[name]
    X = rows(40)
    nfk = NFKTransformer(make(), 4, n_reference=50, random_state=3, **options).fit(X)
    nfk.save(tmp_path / "nfk")
    loaded = NFKTransformer.load(tmp_path / "nfk", make(), **given)
    np.testing.assert_array_equal(loaded.transform(X), nfk.transform(X))
    np.testing.assert_array_equal(loaded.residual(X), nfk.residual(X))
    np.testing.assert_array_equal(loaded.get_feature_names_out(), nfk.get_feature_names_out())
    for attribute in (a for a in vars(nfk) if a.endswith("_") and a not in ("module_", "density_")):
        np.testing.assert_array_equal(getattr(loaded, attribute), getattr(nfk, attribute))
    assert repr(loaded.density_) == repr(nfk.density_)
    np.testing.assert_allclose(clone(loaded).fit(X).transform(X), nfk.transform(X), rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(loaded.truncate(2).transform(X), nfk.truncate(2).transform(X))


def test_columns_of_a_data_frame_are_remembered(tmp_path):
    X = pd.DataFrame(rows(40), columns=list("abcde"))
    NFKTransformer(mlp(), 3, random_state=0).fit(X).save(tmp_path / "nfk")
    loaded = NFKTransformer.load(tmp_path / "nfk", mlp())
    loaded.transform(X)
    with pytest.raises(ValueError, match="feature names"):
        loaded.transform(X.rename(columns={"a": "z"}))


@pytest.mark.parametrize("model, given", [(None, None), (Net, Net()), (Net, Net().double())])
def test_weights_that_exist_nowhere_else_are_in_the_file(model, given, tmp_path):
    X = rows(40)
    nfk = NFKTransformer(model, 3, random_state=0).fit(X)
    nfk.save(tmp_path / "nfk")
    np.testing.assert_array_equal(NFKTransformer.load(tmp_path / "nfk", given).transform(X), nfk.transform(X))


@pytest.mark.parametrize(
    "X", [rows(40, 4, 5), TensorDataset(torch.as_tensor(rows(40, 6)))], ids=["matrices", "a data set"]
)
def test_a_model_made_here_is_made_again_for_rows_of_any_kind(X, tmp_path):
    nfk = NFKTransformer(None, 3, random_state=0).fit(X)
    nfk.save(tmp_path / "nfk")
    np.testing.assert_array_equal(NFKTransformer.load(tmp_path / "nfk").transform(X), nfk.transform(X))


def changed():
    model = mlp()
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-6
    return model


def other_activation():
    model = mlp()
    model[1] = nn.ReLU()
    return model


@pytest.mark.parametrize(
    "model, message",
    [
        (None, r"`model` must be given .* Sequential with its weights \(0.weight \(7, 5\)"),
        (mlp(4), r"parameter '0.weight' has shape \(7, 5\). Got shape \(7, 4\)"),
        (nn.Linear(5, 3), "parameter '0.weight' has shape .* Got no such parameter"),
        (changed(), "must have the weights .* other values"),
        (other_activation(), "must have the weights"),
        (Net, "`model` must be given"),
    ],
)
def test_another_model_is_refused_and_what_is_missing_named(model, message, tmp_path):
    NFKTransformer(mlp(), 3, random_state=0).fit(rows(40)).save(tmp_path / "nfk")
    with pytest.raises(ValueError, match=message):
        NFKTransformer.load(tmp_path / "nfk", model)


def test_an_unfitted_transformer_has_nothing_to_save(tmp_path):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        NFKTransformer(mlp()).save(tmp_path / "nfk")


def test_damage_is_found_before_anything_is_used(tmp_path):
    path, rng = tmp_path / "nfk", random.Random(0)
    NFKTransformer(convnet(), 8, random_state=0).fit(rows(40, 1, 8, 8)).save(path)
    original = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(original)
        damaged[rng.randrange(len(original))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError):
            NFKTransformer.load(path, convnet())


def test_the_file_says_what_wrote_it(tmp_path):
    NFKTransformer(mlp(), 3, random_state=0).fit(rows(40)).save(tmp_path / "nfk")
    _, content = read_arrays(tmp_path / "nfk")
    assert {"sknfk", "torch", "numpy", "scikit-learn"} == content["versions"].keys()
    assert content["model"]["shapes"]["0.weight"] == [7, 5]
    json.dumps(content)


@pytest.mark.parametrize("library", [pickle, joblib])
def test_pickle_and_joblib_work_too(library, tmp_path):
    X = rows(40)
    nfk = NFKTransformer(mlp(), 3, checkpoint=str(tmp_path / "fit"), random_state=0).fit(X)
    with open(tmp_path / "nfk", "wb") as file:
        library.dump(nfk, file)
    with open(tmp_path / "nfk", "rb") as file:
        loaded = library.load(file)
    np.testing.assert_array_equal(loaded.transform(X), nfk.transform(X))


def test_small_components_mapped_from_a_file_embed_bit_for_bit_as_in_memory(tmp_path):
    X = rows(60)
    nfk = NFKTransformer(mlp(), 3, dtype="float32", random_state=0).fit(X)
    joblib.dump(nfk, tmp_path / "nfk")
    mapped = joblib.load(tmp_path / "nfk", mmap_mode="r")
    assert isinstance(mapped.components_, np.memmap)
    np.testing.assert_array_equal(mapped.transform(X), nfk.transform(X))


def test_components_mapped_from_a_file_are_read_slice_by_slice(tmp_path, monkeypatch):
    monkeypatch.setattr(_vectors, "SLICE_COLUMNS", 16)
    monkeypatch.setattr(_access, "READ_AT_ONCE", 0)
    X = rows(60, 300)
    nfk = NFKTransformer(mlp(300), 40, solver="exact", batch_size=4, random_state=0).fit(X)
    joblib.dump(nfk, tmp_path / "nfk")
    mapped = joblib.load(tmp_path / "nfk", mmap_mode="r")
    assert isinstance(mapped.components_, np.memmap)
    np.testing.assert_allclose(mapped.transform(X), nfk.transform(X), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(mapped.residual(X), nfk.residual(X), rtol=1e-10, atol=1e-10)
    in_memory, from_file = (peak_bytes(lambda fitted=fitted: fitted.transform(X[:4])) for fitted in (nfk, mapped))
    assert in_memory - from_file > 1.5 * nfk.components_.nbytes
    tracemalloc.start()  # sees what numpy allocates
    mapped.transform(X[:4])
    of_numpy = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert of_numpy < nfk.components_.nbytes / 2


def test_a_layer_with_another_setting_is_another_model(tmp_path):
    def model(slope):
        return nn.Sequential(*mlp()[:1], nn.LeakyReLU(slope), *mlp()[2:])

    NFKTransformer(model(0.1), 3, random_state=0).fit(rows(40)).save(tmp_path / "nfk")
    NFKTransformer.load(tmp_path / "nfk", model(0.1))
    with pytest.raises(ValueError, match="with other values or layers"):
        NFKTransformer.load(tmp_path / "nfk", model(0.9))
