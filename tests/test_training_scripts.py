"""The benchmarks' training loop: every script takes a step, and a broken-off training goes on bit for bit."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks import networks, own_pairs, train_classifiers, train_gans, train_vae, trained, training
from benchmarks.features import activations, transformer

RECIPES = [recipe for script in (train_classifiers, train_gans, train_vae) for recipe in script.RECIPES]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(trained, "CACHE", tmp_path)
    return tmp_path


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_every_script_takes_a_step_that_changes_every_module(recipe):
    training.main([recipe], ["--smoke"])
    assert training.finished(recipe) is None
    before, after = training.initial(recipe).state_dict(), training.finished(training.smoke(recipe)).state_dict()
    for name in training.initial(recipe):
        assert any(not torch.equal(before[key], after[key]) for key in before if key.startswith(name))
    assert all(value.isfinite().all() for value in after.values())


@pytest.mark.parametrize("recipe", [train_classifiers.LENET5, train_gans.SMALL_DCGAN], ids=lambda recipe: recipe.name)
def test_broken_off_training_goes_on_bit_for_bit(recipe, monkeypatch):
    images = recipe.smoke_data()
    small = dataclasses.replace(training.smoke(recipe), data=lambda: images, batch_size=4)
    expected = training.train(small, n_steps=6).state_dict()
    small.path.unlink()
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)  # after every step
    real = training.save

    def breaks(*arguments):
        real(*arguments)
        if arguments[3] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save", breaks)
    with pytest.raises(KeyboardInterrupt):
        training.train(small, n_steps=6)
    assert training.finished(small) is None
    monkeypatch.setattr(training, "save", real)
    found = training.train(small, n_steps=6).state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_a_checkpoint_of_another_length_is_refused():
    recipe = training.smoke(train_classifiers.MLP)
    training.train(recipe)
    with pytest.raises(ValueError, match="--steps 1"):
        training.train(recipe, n_steps=2)


def test_an_epoch_shows_every_row_once():
    for epoch in range(2):
        rows = torch.cat([training.rows_of_step(3 * epoch + batch, 13, 4) for batch in range(3)])
        assert len(rows.unique()) == 12
    assert not torch.equal(training.rows_of_step(0, 13, 4), training.rows_of_step(3, 13, 4))


def test_crops_are_windows_of_the_padded_image():
    x = torch.arange(2 * 36.0).reshape(2, 1, 6, 6) + 1
    found = training.cropped_and_flipped(x, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (4, 4, 4, 4))
    for image, whole in zip(found, padded, strict=True):
        windows = [whole[:, i : i + 6, j : j + 6] for i in range(9) for j in range(9)]
        assert any(torch.equal(image, own) or torch.equal(image, own.flip(2)) for own in windows)


def test_folding_the_spectral_norm_leaves_the_function():
    torch.manual_seed(0)
    model, x = networks.sn_discriminator(8).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(networks.folded(model)(x), expected)
    assert not any("parametrizations" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    "build, n_parameters",
    [
        (networks.binary_mlp, 267_009),
        (networks.binary_lenet5, 60_941),
        (networks.small_discriminator, 16_921),
        (lambda: networks.wide_resnet(40, 2), 2_243_546),
        (lambda: networks.wide_resnet(16, 1), 175_066),
    ],
)
def test_networks_have_the_parameters_that_they_say(build, n_parameters):
    assert sum(p.numel() for p in build().parameters()) == n_parameters


@pytest.mark.parametrize("key", own_pairs.OWN)
def test_own_models_have_fisher_vectors_and_activations(key, monkeypatch):
    monkeypatch.setattr(training, "finished", lambda recipe: training.initial(recipe).eval())
    pair = own_pairs.pair_of(key)
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    X = pair.model.read(images).numpy()
    nfk = transformer(pair, n_components=2, n_reference=4).fit(X)
    assert nfk.transform(X).shape == (6, 2)
    assert activations(pair, X).shape == (6, {"sngan/cifar10": 512, "conv_vae/cifar10": 128}[key])


def test_models_without_finished_weights_are_left_out_in_words(capsys):
    assert own_pairs.pair_of("sngan/cifar10") is None
    assert "left out" in capsys.readouterr().out
