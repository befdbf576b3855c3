"""Whether a model reads tokens goes by what it does with them, not by the order of its layers."""

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import GradientFeatureClassifier, NFKDistiller, NFKernel, NFKTransformer
from sknfk._tokens import takes_tokens
from sknfk.inspection import layer_spectra

from .cases import Tokens, mlp, rows, seeded, tokens

X = rows(24)
y = np.arange(24) % 3


class Positions(nn.Module):
    """Adds an embedding of the position, its first layer, to a map of each value."""

    def __init__(self):
        super().__init__()
        self.position, self.value, self.head = nn.Embedding(5, 4), nn.Linear(1, 4), nn.Linear(4, 3)

    def forward(self, x):
        places = self.position(torch.arange(5, device=x.device))
        return self.head(torch.tanh(self.value(x[..., None]) + places).mean(1))


class HeadFirst(Tokens):
    """Its head is declared before its table."""

    def __init__(self):
        super().__init__()
        self.embedding = self._modules.pop("embedding")


class Codes(nn.Module):
    """Looks up which of five sums is largest."""

    def __init__(self):
        super().__init__()
        self.table, self.body, self.head = nn.Embedding(5, 4), nn.Linear(5, 5), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.table(self.body(x).argmax(1)))


class Bags(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag, self.head = nn.EmbeddingBag(11, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.bag(x))


class Labelled(nn.Module):
    """Takes a class beside its rows, so that rows alone say nothing."""

    def __init__(self):
        super().__init__()
        self.table, self.body = nn.Embedding(3, 4), nn.Linear(5, 4)

    def forward(self, x, label):
        return (self.table(label) * self.body(x)).sum(1)


READERS = {
    "tokens": (Tokens, True),
    "tokens, the head declared first": (HeadFirst, True),
    "bags of tokens": (Bags, True),
    "positions": (Positions, False),
    "codes of its own": (Codes, False),
    "two arguments, a table declared first": (Labelled, True),
}


@pytest.mark.parametrize("name", READERS)
def test_a_model_takes_tokens_if_it_looks_up_its_input(name):
    make, expected = READERS[name]
    assert takes_tokens(seeded(make), (5,)) is expected


def test_a_model_without_embeddings_is_not_run():
    model = mlp()
    model.register_forward_pre_hook(lambda *_: pytest.fail("it is run"))
    assert not takes_tokens(model, (5,))


def net(make):
    return NeuralNetClassifier(make, criterion=nn.CrossEntropyLoss, max_epochs=1, train_split=None, verbose=0)


FITS = {
    "transformer": lambda make: NFKTransformer(seeded(make), 3, random_state=0),
    "transformer of a net": lambda make: NFKTransformer(net(make), 3, random_state=0),
    "kernel": lambda make: NFKernel(seeded(make)),
    "gradient features": lambda make: GradientFeatureClassifier(seeded(make), layers="head", random_state=0),
    "distiller": lambda make: NFKDistiller(net(make), NFKTransformer(mlp(), 3), layer="head", random_state=0),
}


@pytest.mark.parametrize("name", FITS)
def test_a_model_with_an_embedding_of_positions_takes_floats(name):
    fitted = FITS[name](Positions).fit(X, y)
    work = fitted.predict_proba if hasattr(fitted, "predict_proba") else fitted.transform
    # Cut off to integers, nearly all values would be zero.
    assert abs(work(X) - work(np.trunc(X))).max() > 1e-3


@pytest.mark.parametrize("name", FITS)
def test_a_model_that_declares_its_table_last_takes_tokens(name):
    token_rows = np.random.default_rng(0).integers(0, 11, (24, 5))
    FITS[name](HeadFirst).fit(token_rows, y)


def test_spectra_of_a_model_with_an_embedding_of_positions_are_of_floats():
    model = seeded(Positions)
    outputs = model(torch.from_numpy(X)).detach()
    expected = torch.linalg.svdvals(outputs - outputs.mean(0)) / len(X) ** 0.5
    np.testing.assert_allclose(layer_spectra(model, X, "head")["head"], expected, rtol=1e-6, atol=1e-9)


def test_spectra_of_a_model_of_tokens_are_of_tokens():
    token_rows = np.random.default_rng(0).integers(0, 11, (24, 5))
    found = layer_spectra(tokens(), token_rows, "embedding")["embedding"]
    assert found.shape == (20,) and found[0] > 0


def test_asking_whether_a_model_takes_tokens_leaves_the_generator_as_it_was():
    class Draws(Positions):
        def forward(self, x):
            torch.randn(3)
            return super().forward(x)

    before = torch.get_rng_state()
    NFKernel(seeded(Draws), engine="loop").fit(X)
    assert torch.equal(torch.get_rng_state(), before)
