"""Messages about X and y: (trigger, class, message)."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from sknfk import NFKernel, NFKTransformer, semi_supervised_split
from sknfk.batches import as_feed
from sknfk.exceptions import DataChangedError

from ..cases import convnet, mlp, rows, tokens
from .making import fit, nfk

ROWS = TensorDataset(torch.zeros(7, 5))


class Endless(IterableDataset):
    def __iter__(self):
        return iter(torch.zeros(3, 2))


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, a):
        return self.net(a)


class NewEachTime:
    """A data set that is augmented: another row at every reading."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.from_numpy(rows(1, 5, seed=int(torch.randint(2**31, ())))[0])


class ListsInItems:
    """A data set of token ids, not as tensors."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return {"input_ids": [3, 1, 4, 1, 5]}


def transformed_parts(X):
    NFKTransformer(Bag(), 3, random_state=0).fit({"a": rows(12)}).transform(X)


def packed_to_another_length():
    feed = as_feed({"a": np.zeros((3, 2)), "b": np.zeros((3, 1))})
    feed.fields.pack({"a": np.zeros((3, 1)), "b": np.zeros((3, 2))})


MESSAGES = {
    "rows that change": (
        lambda: nfk().fit(NewEachTime()),
        DataChangedError,
        "X must hold the same rows at every pass. Got other values in batch 0 than before; "
        "pass the same X in the same order: shuffle=False, and no augmentation.",
    ),
    "a batch of three": (
        lambda: as_feed(TensorDataset(torch.zeros(3, 1), torch.zeros(3), torch.zeros(3))),
        TypeError,
        "A batch of X must be a tensor, a dict of tensors, or one of them with a target, (x, y). "
        "Got …; let the items, or `collate_fn`, give the model's arguments by name.",
    ),
    "a batch of other rows than asked for": (
        lambda: as_feed(ListsInItems()),
        ValueError,
        "A batch of X must have one row for each item. Got (5, 1) for 1 of them; let `collate_fn` leave out none, and "
        "let items hold tensors, not lists, which torch collates by column: `with_format('torch')` for a data set of "
        "Hugging Face.",
    ),
    "an iterable data set": (
        lambda: as_feed(Endless()),
        TypeError,
        "X must be a map-style data set, with a length and items by number. Got the iterable Endless, whose rows come "
        "once; give it `__len__` and `__getitem__`, or pass an array.",
    ),
    "a loader that shuffles": (
        lambda: as_feed(DataLoader(ROWS, shuffle=True)),
        ValueError,
        "X as a DataLoader must give the same rows in the same order at every pass. Got the sampler RandomSampler; "
        "pass shuffle=False and no sampler of your own.",
    ),
    "a loader that drops rows": (
        lambda: as_feed(DataLoader(ROWS, 4, drop_last=True)),
        ValueError,
        "X as a DataLoader must give all rows. Got drop_last=True, which leaves out 3; pass drop_last=False.",
    ),
    "text": (
        lambda: as_feed(["some", "words"]),
        TypeError,
        "X must hold numbers. Got a list of str; let a step before this one turn text into tokens. If X was a dict of "
        "arrays, wrap it in `skorch.helper.SliceDict`: scikit-learn takes the keys of a plain dict for its rows.",
    ),
    "no rows": (
        lambda: as_feed(TensorDataset(torch.zeros(0, 2))),
        ValueError,
        "X must have at least one row. Got none (0 samples); check how X was selected.",
    ),
    "one row": (
        lambda: nfk().fit(TensorDataset(torch.zeros(1, 5))),
        ValueError,
        "X must have at least 2 rows to fit. Got 1 sample; pass more.",
    ),
    "no parts": (
        lambda: as_feed({}),
        ValueError,
        "X as a dict must have a part for each argument of the model. Got an empty one; pass arrays by name.",
    ),
    "parts of other lengths": (
        lambda: as_feed({"a": np.zeros(3), "b": np.zeros(4)}),
        ValueError,
        "The parts of X must have the same number of rows. Got {'a': 3, 'b': 4}; pass one for each example.",
    ),
    "batches with parts of other lengths": (
        lambda: as_feed({"a": np.zeros(3)}).fields.pack({"a": np.zeros(3), "b": np.zeros(4)}),
        ValueError,
        "The parts of X must have the same number of rows. Got {'a': 3, 'b': 4}; pass one for each example.",
    ),
    "dicts of other parts": (
        lambda: as_feed([{"a": 1.0}, {"b": 1.0}]),
        ValueError,
        "Every dict of X must have the parts of the first, ['a']. That of row 1 has others; give all rows the same.",
    ),
    "ragged items": (
        lambda: as_feed([{"a": [1]}, {"a": [1, 2]}]),
        ValueError,
        "Part 'a' of X must have rows of one shape. …; pad them, or pass a DataLoader with a `collate_fn` that does.",
    ),
    "a number for a part": (
        lambda: as_feed({"a": np.zeros(3)}).fields.pack({"a": 1.0}),
        ValueError,
        "Part 'a' of X must have a row for each example. Got a single number; pass an array of one for each.",
    ),
    "text in a part": (
        lambda: as_feed({"a": np.array(["x", "y"])}),
        ValueError,
        "Part 'a' of X must be an array of numbers, a row for each example. Got ndarray that cannot become one; "
        "pad rows to one length, or pass a DataLoader whose `collate_fn` does.",
    ),
    "parts padded apart": (
        packed_to_another_length,
        ValueError,
        "Batches of X whose rows hold 3 numbers must have the same parts. Got 'a' (1,), 'b' (2,) after 'a' (2,), "
        "'b' (1,); let `collate_fn` pad all parts to one length.",
    ),
    "other parts than in fit": (
        lambda: transformed_parts({"a": rows(3), "b": rows(3)}),
        ValueError,
        "X must have the parts that it had in fit, 'a' (5,). Got 'a' (5,), 'b' (5,); pass the same.",
    ),
    "an array after parts": (
        lambda: transformed_parts(rows(3)),
        ValueError,
        "X must have parts by name, as in fit. Got rows of shape (5,); pass X as in fit.",
    ),
    "parts after an array": (
        lambda: fit().transform({"a": rows(3)}),
        ValueError,
        "X must have no parts: in fit an example was one array. Got the parts 'a' (5,); pass X as in fit.",
    ),
    "rows of another shape": (
        lambda: nfk(convnet()).fit(rows(12, 1, 8, 8)).transform(rows(3, 1, 9, 8)),
        ValueError,
        "X must have rows of shape (1, 8, 8), as in fit. Got (1, 9, 8); pass rows of the same shape.",
    ),
    "floats for tokens": (
        lambda: nfk(tokens()).fit(np.abs(rows(12))),
        ValueError,
        "X must hold integer tokens: the model's first layer is an embedding. Got float64; convert X with "
        "`astype(int)` if its values are token ids.",
    ),
    "reference rows of another shape": (
        lambda: fit(statistics=rows(9, 4)),
        ValueError,
        "`statistics` must have rows of shape (5,), as X. Got (4,); pass rows of the same shape.",
    ),
    "input_shape for parts": (
        lambda: nfk(Bag(), input_shape=(5,)).fit({"a": rows(12)}),
        ValueError,
        "`input_shape` must be None where X has parts or is padded by `collate_fn`. Got (5,); "
        "let the data set give the shape that the model takes.",
    ),
    "input_shape of another size": (
        lambda: fit(input_shape=(2, 3)),
        ValueError,
        "`input_shape` must hold as many values as a row of X. Got (2, 3) (6 values) for rows of shape (5,) (5); "
        "check its order, such as (3, 32, 32).",
    ),
    "an embedding that overflows": (
        lambda: fit(density=lambda m, x: m(x)[:, 0] * x.sum(1) ** 4).transform(np.full((2, 5), 1e150)),
        ValueError,
        "The embedding must be finite. Gradients of some rows of X are NaN or infinite; check the scaling of X against "
        "that of the rows in fit.",
    ),
    "a kernel that overflows": (
        lambda: (
            NFKernel(mlp(), density=lambda m, x: m(x)[:, 0] * x.sum(1) ** 4)
            .fit(rows(12))
            .transform(np.full((2, 5), 1e150))
        ),
        ValueError,
        "The kernel must be finite. Gradients of some rows of X are NaN or infinite; check the scaling of X against "
        "that of the rows in fit.",
    ),
    "out of another shape": (
        lambda: fit().transform(rows(4), out=np.zeros((4, 2))),
        ValueError,
        "`out` must be a writable floating array of shape (4, 3). Got (4, 2) of float64; make one with "
        "`numpy.lib.format.open_memmap(path, 'w+', dtype='float32', shape=(4, 3))`.",
    ),
    "too few labels to split": (
        lambda: semi_supervised_split([0, 0, 1, 1, -1], 3),
        ValueError,
        "`n_splits` must be at most the number of labels of the smallest class. Got n_splits=3 and 2 labels; "
        "lower `n_splits` or label more rows.",
    ),
}
