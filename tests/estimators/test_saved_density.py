"""Every density in a file: `transform` gives the same bits after loading, or `save` refuses."""

import inspect
import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from sknfk import NFKTransformer, densities
from sknfk.densities import (
    Autoregressive,
    CallableDensity,
    Classifier,
    Density,
    Discriminator,
    Embedding,
    Langevin,
    LanguageModel,
    Logit,
    LogProb,
    MultiLabel,
    Output,
    Sampled,
    Variational,
)

from ..cases import mlp, rows, seeded
from .test_model_statistics import Autoencoder, generator

pytest.importorskip("safetensors")


def discriminator():
    """Ends in a sigmoid, which a fit finds and reads before."""
    return seeded(lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1), nn.Sigmoid()))


def next_tokens():
    return seeded(lambda: nn.Sequential(nn.Embedding(11, 4), nn.Tanh(), nn.Linear(4, 11)))


def negative_square(model, x):
    return -model(x).square().sum(1)


def latents(n, rng):
    return torch.randn(n, 3, generator=rng, dtype=torch.float64)


def logits(model, x):
    return torch.zeros(len(x), 2, x.shape[1])


@dataclass(frozen=True, repr=False, eq=False)
class Shifted(Density):
    """A number is drawn."""

    shift: float = 0.0

    def prepared(self, model, x, rng):
        return replace(self, shift=float(torch.rand(1, generator=rng)))

    def log_density(self, model, x):
        return torch.logsumexp(model(x + self.shift), 1)


class Noisy(Density):
    """No dataclass; what is drawn is a tensor, a pair and a numpy scalar, beside a function."""

    def __init__(self, around=negative_square):
        self.around = around

    def prepared(self, model, x, rng):
        drawn = Noisy(self.around)
        drawn.noise = torch.rand(x.shape[1:], generator=rng, dtype=torch.float64)
        drawn.slope = (float(torch.rand(1, generator=rng)), 2)
        drawn.factor = np.float32(0.1)
        return drawn

    def log_density(self, model, x):
        a, b = self.slope
        return self.factor * self.around(model, a * x + b * self.noise)


class Before(Density):
    """Holds a network, of which a fit keeps a copy, and another that it takes as it is."""

    def __init__(self, network, other=None):
        self.network, self.other = network, other

    def prepared(self, model, x, rng):
        own = pickle.loads(pickle.dumps(self.network))
        return Before(own.eval().requires_grad_(False), self.other)

    def log_density(self, model, x):
        x = self.network(x) if self.other is None else self.other(self.network(x))
        return torch.logsumexp(model(x), 1)


def layer(n_outputs=5, seed=3):
    return seeded(lambda: nn.Linear(5, n_outputs), seed)


DRAWN_BY_A_CHAIN = Langevin(n_steps=2)
CASES = {
    "classifier": (mlp, Classifier),
    "labels": (mlp, MultiLabel),
    "a logit": (mlp, lambda: Logit(1)),
    "an output": (lambda: mlp(5, 1), Output),
    "a function": (mlp, lambda: CallableDensity(negative_square)),
    "an embedding": (mlp, lambda: Embedding(2)),
    "all of an embedding": (mlp, Embedding),
    "a language model": (next_tokens, lambda: LanguageModel(padding=3)),
    "log p": (lambda: mlp(5, 1), LogProb),
    "log p between grey values": (lambda: mlp(5, 1), lambda: LogProb(dequantize="add", n_draws=2)),
    "a discriminator": (lambda: mlp(5, 1), Discriminator),
    "a sigmoid": (discriminator, Discriminator),
    "a sigmoid and a generator": (discriminator, lambda: Discriminator(generator())),
    "a generator in training": (discriminator, lambda: Discriminator(generator().float().train(), latents)),
    "a bound": (lambda: seeded(Autoencoder), lambda: Variational(likelihood="gaussian", n_draws=4)),
    "a function of a bound": (mlp, lambda: Variational(elbo=negative_square)),
    "a chain": (lambda: mlp(5, 1), lambda: Sampled(Output(), DRAWN_BY_A_CHAIN)),
    "a chain and a sigmoid": (discriminator, lambda: Sampled(Discriminator(), DRAWN_BY_A_CHAIN)),
    "a chain and a generator": (discriminator, lambda: Sampled(Discriminator(generator()), DRAWN_BY_A_CHAIN)),
    "a chain and noise": (lambda: mlp(5, 1), lambda: Sampled(LogProb(dequantize="add"), DRAWN_BY_A_CHAIN)),
    "entry by entry": (mlp, lambda: Sampled(Embedding(2), Autoregressive(logits))),
    "a user's number": (mlp, Shifted),
    "a user's noise": (mlp, Noisy),
    "a user's number in a chain": (mlp, lambda: Sampled(Shifted(), DRAWN_BY_A_CHAIN)),
    "a user's networks": (mlp, lambda: Before(layer().train(), layer(seed=4))),
}


def of_library(density):
    return {type(density)} | {type(part) for part in vars(density).values() if isinstance(part, Density)}


def test_every_density_of_the_library_is_a_case():
    ours = {kind for kind in vars(densities).values() if inspect.isclass(kind) and issubclass(kind, Density)}
    assert ours - {Density} <= set.union(*(of_library(make()) for _, make in CASES.values()))


def fitted(name):
    make, density = CASES[name]
    X = np.random.default_rng(0).integers(0, 11, (40, 6)) if make is next_tokens else rows(40)
    return NFKTransformer(make(), 3, density=density(), n_reference=20, random_state=1).fit(X), X


@pytest.mark.parametrize("name", CASES)
def test_transform_gives_the_same_bits_after_loading(name, tmp_path):
    nfk, X = fitted(name)
    nfk.save(tmp_path / "nfk")
    make, density = CASES[name]
    loaded = NFKTransformer.load(tmp_path / "nfk", make(), density=density())
    np.testing.assert_array_equal(loaded.transform(X), nfk.transform(X))
    np.testing.assert_array_equal(loaded.log_density(X), nfk.log_density(X))
    assert vars(loaded.density_).keys() == vars(nfk.density_).keys()
    if nfk.density_.sampling == "exact":
        drawn, before = (f.density_.sample(f.module_, 4, torch.Generator().manual_seed(0)) for f in (loaded, nfk))
        assert torch.equal(drawn, before)


@pytest.mark.parametrize("name", CASES)
def test_a_loaded_or_unpickled_transformer_is_saved_again(name, tmp_path):
    nfk, X = fitted(name)
    make, density = CASES[name]
    for _ in range(2):
        nfk = pickle.loads(pickle.dumps(nfk))
        nfk.save(tmp_path / "nfk")
        loaded = NFKTransformer.load(tmp_path / "nfk", make(), density=density())
        np.testing.assert_array_equal(loaded.transform(X), nfk.transform(X))
        nfk = loaded


class Listed(Noisy):
    """What is drawn is hidden in a list."""

    def prepared(self, model, x, rng):
        drawn = super().prepared(model, x, rng)
        drawn.listed = [drawn.noise]
        return drawn


class Trained(Before):
    """A fit changes the network's weights."""

    def prepared(self, model, x, rng):
        return Before(layer(seed=5), self.other) if self.other else Trained(layer(seed=5))


@pytest.mark.parametrize(
    "density, found",
    [
        (Listed(), "a list as `listed` of Noisy"),
        (Trained(layer()), "a Linear as `network` of Trained"),
        (Trained(layer(), layer()), "a Linear as `network` of Before"),
        (Sampled(Listed(), DRAWN_BY_A_CHAIN), "a list as `listed` of Noisy"),
    ],
)
def test_what_no_file_can_hold_is_refused_before_one_is_written(density, found, tmp_path):
    nfk = NFKTransformer(mlp(), 3, density=density, random_state=0).fit(rows(40))
    with pytest.raises(ValueError, match=f"must be able to give back .* Got {found}"):
        nfk.save(tmp_path / "nfk")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "density, other, message",
    [
        (Before(layer()), Before(layer(seed=4)), "Got another `network` or none"),
        (Before(layer(), layer()), Before(layer()), "Got another `other` or none"),
        (Sampled(Before(layer()), DRAWN_BY_A_CHAIN), Sampled(Before(layer(2)), DRAWN_BY_A_CHAIN), "`network` or none"),
        (Noisy(), negative_square, "must be that of .*, which was fitted with Noisy.* Got CallableDensity"),
        (Noisy(), Classifier(), r"must be that of .* Got Classifier\(\)"),
        (Sampled(Noisy(), DRAWN_BY_A_CHAIN), Sampled(Shifted(), DRAWN_BY_A_CHAIN), r"Noisy.* Got Shifted\(\)"),
        (Noisy(), "auto", "must be that of .* Got None"),
    ],
)
def test_another_density_is_refused_at_loading(density, other, message, tmp_path):
    NFKTransformer(mlp(), 3, density=density, random_state=0).fit(rows(40)).save(tmp_path / "nfk")
    with pytest.raises(ValueError, match=message):
        NFKTransformer.load(tmp_path / "nfk", mlp(), density=other)
