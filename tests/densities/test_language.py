"""Padding of token sequences: on the right it changes nothing, on the left it is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from sknfk import NFKTransformer
from sknfk.densities import LanguageModel

from ..cases import seeded

N_TOKENS, EMPTY = 11, 0
ON_THE_LEFT = "padded on the right. Got a row that begins with padding"


class Bigram(nn.Module):
    """Predicts the next token from the last one and its position."""

    def __init__(self):
        super().__init__()
        self.table, self.places = nn.Embedding(N_TOKENS, 6), nn.Embedding(9, 6)
        self.head = nn.Linear(6, N_TOKENS)

    def forward(self, input_ids, attention_mask=None):
        return self.head(torch.tanh(self.table(input_ids) + self.places.weight[: input_ids.shape[1]]))


def padded(left=(), n_rows=12):
    """Return five tokens in each row and three of padding, on the left of some rows."""
    ids = np.full((n_rows, 8), EMPTY)
    ids[:, :5] = np.random.default_rng(0).integers(1, N_TOKENS, (n_rows, 5))
    for row in left:
        ids[row] = np.roll(ids[row], 3)
    return {"input_ids": ids, "attention_mask": (ids != EMPTY).astype(int)}


def nfk(engine="auto", **options):
    return NFKTransformer(
        seeded(Bigram), 3, density=LanguageModel(**options), engine=engine, batch_size=4, random_state=0
    )


@pytest.mark.parametrize("engine", ["auto", "vmap", "loop", "jvp"])
@pytest.mark.parametrize("row", [0, 11])
def test_padding_on_the_left_of_any_row_is_refused_by_every_engine(engine, row):
    with pytest.raises(ValueError, match=ON_THE_LEFT):
        nfk(engine).fit(padded([row]))
    with pytest.raises(ValueError, match=ON_THE_LEFT):
        nfk(engine).fit(padded()).transform(padded([row]))


def test_padding_that_a_token_stands_for_is_refused_on_the_left():
    with pytest.raises(ValueError, match=ON_THE_LEFT):
        nfk(padding=EMPTY).fit(padded([11])["input_ids"])


def log_density(ids, **options):
    return LanguageModel(**options).log_density(seeded(Bigram), torch.tensor([ids]))


def test_the_token_that_stands_for_padding_may_begin_a_sequence():
    with_padding = log_density([EMPTY, 3, 2, EMPTY, EMPTY], padding=EMPTY)
    torch.testing.assert_close(with_padding, log_density([EMPTY, 3, 2]))


def test_an_empty_sequence_has_the_log_likelihood_0():
    X = padded()
    X["attention_mask"][4] = 0
    assert nfk().fit(X).log_density(X)[4] == 0


def test_the_engine_is_the_one_that_it_would_be_without_a_mask():
    assert nfk().fit(padded()).engine_ == "layerwise"
