"""What X may be beside an array: parts by name, data sets, loaders, arrays on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from skorch.helper import SliceDataset, SliceDict
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler, default_collate

from .._sklearn import native
from ._fields import Fields

__all__ = ["Feed", "as_feed"]

ROWS_AT_ONCE = 256  # in a digest


class Feed:
    """Rows that are read when they are asked for, the same at every time.

    Parameters
    ----------
    source : Source
        Reads them.

    Attributes
    ----------
    fields : Fields or None
        How parts are packed; None where an example is one tensor.
    shape : tuple of int
        Of all rows; the first row's where they vary.
    dtype : dtype
        Of the rows.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.fields: Fields | None = None
        if len(source) == 0:
            raise ValueError("X must have at least one row. Got none (0 samples); check how X was selected.")
        first = self[:1]
        self.shape = (len(source), *first.shape[1:])
        self.dtype = first.dtype

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.source)

    def __getitem__(self, rows: slice) -> Tensor:
        """Read some rows, packed where they have parts."""
        numbers = range(*rows.indices(len(self)))
        return self._packed(self.source.read(numbers), len(numbers))

    def in_batches(self, batches: Sequence[range]) -> Iterator[Tensor]:
        """Read one batch after the other."""
        return map(self._packed, self.source.in_batches(batches), map(len, batches))

    def digest(self) -> str:
        """Return a digest of all rows. Cost: one pass of reading."""
        digest = hashlib.sha256()
        for rows in self.in_batches(_ranges(len(self), ROWS_AT_ONCE)):
            digest.update(f"{rows.dtype}:{tuple(rows.shape)};".encode())
            digest.update(rows.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _packed(self, batch: Any, n_rows: int) -> Tensor:
        inputs = _inputs_of(batch)
        if isinstance(inputs, Mapping):
            self.fields = self.fields or Fields()
            inputs = self.fields.pack(inputs)
        if inputs.shape[:1] != (n_rows,):
            raise ValueError(
                f"A batch of X must have one row for each item. Got {tuple(inputs.shape)} for {n_rows} of them; "
                "let `collate_fn` leave out none, and let items hold tensors, not lists, which torch collates by "
                "column: `with_format('torch')` for a data set of Hugging Face."
            )
        return inputs


class Source(Protocol):
    """Reads rows for a feed.

    ``for_training`` is X as skorch reads it, for a net that is trained on it; ``varies``
    says whether rows of another batch may have another shape, ``is_read_anew`` whether
    the caller's code runs at every pass, and may give other rows.
    """

    for_training: Any
    varies: bool
    is_read_anew: bool

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def read(self, rows: range) -> Any:
        """Return some rows: a tensor, or parts by name."""
        ...

    def in_batches(self, batches: Sequence[range]) -> Iterator[Any]:
        """Read one batch after the other."""
        ...


class Parts:
    """Arrays by name, one row of each for an example: a dict, a ``BatchEncoding``, a ``SliceDict``."""

    varies = is_read_anew = False

    def __init__(self, parts: Mapping[str, Any]) -> None:
        if not parts:
            raise ValueError(
                "X as a dict must have a part for each argument of the model. Got an empty one; pass arrays by name."
            )
        self.parts = {str(name): _sliceable(str(name), values) for name, values in parts.items()}
        lengths = {name: len(values) for name, values in self.parts.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(
                f"The parts of X must have the same number of rows. Got {lengths}; pass one for each example."
            )
        self.for_training = SliceDict(**self.parts)

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def read(self, rows: range) -> dict[str, Any]:
        return {name: values[rows.start : rows.stop] for name, values in self.parts.items()}

    def in_batches(self, batches: Sequence[range]) -> Iterator[dict[str, Any]]:
        return map(self.read, batches)


class OnDisk:
    """An array that gives numpy arrays for slices and is not in memory: h5py, zarr."""

    varies = is_read_anew = False

    def __init__(self, array: Any) -> None:
        self.for_training = array

    def __len__(self) -> int:
        return int(self.for_training.shape[0])

    def read(self, rows: range) -> np.ndarray:
        return np.array(self.for_training[rows.start : rows.stop])

    def in_batches(self, batches: Sequence[range]) -> Iterator[np.ndarray]:
        return map(self.read, batches)


class Items:
    """A map-style data set: items are tensors, dicts of them, or pairs with a target."""

    is_read_anew = True

    def __init__(self, dataset: Any, collate: Callable[[list], Any] | None = None, n_workers: int = 0) -> None:
        self.for_training = dataset
        self.collate = default_collate if collate is None else collate
        self.n_workers = n_workers
        self.varies = self.collate is not default_collate

    def __len__(self) -> int:
        return len(self.for_training)

    def read(self, rows: range) -> Any:
        dataset = self.for_training
        read_many = getattr(dataset, "__getitems__", None)
        return self.collate(read_many(list(rows)) if callable(read_many) else [dataset[index] for index in rows])

    def in_batches(self, batches: Sequence[range]) -> Iterator[Any]:
        if self.n_workers == 0:
            return map(self.read, batches)
        numbers = [list(rows) for rows in batches]
        return iter(
            DataLoader(self.for_training, batch_sampler=numbers, collate_fn=self.collate, num_workers=self.n_workers)
        )


def as_feed(X: Any) -> Feed | None:
    """Return X as a feed, or None where scikit-learn can validate it.

    Parameters
    ----------
    X : object
        A dict of arrays, a list of dicts, a data set, a loader or an array on disk.

    Returns
    -------
    Feed or None
        The rows.

    Raises
    ------
    ValueError
        If a loader shuffles or leaves out rows.
    TypeError
        If rows cannot be read in any order, or are text.
    """
    if hasattr(X, "tocsr"):  # a sparse matrix, some of which are dicts: scikit-learn refuses it
        return None
    if isinstance(X, Mapping):
        return Feed(Parts(X))
    dataset = X.dataset if isinstance(X, DataLoader) else X
    if isinstance(dataset, IterableDataset):
        raise TypeError(
            "X must be a map-style data set, with a length and items by number. Got the iterable "
            f"{type(dataset).__name__}, whose rows come once; give it `__len__` and `__getitem__`, or pass an array."
        )
    if isinstance(X, DataLoader):
        return _feed_of_loader(X)
    if isinstance(X, list | tuple):
        return _feed_of_list(X)
    if isinstance(X, Dataset | SliceDataset) or _has_items_of_parts(X):
        return Feed(Items(X))
    if hasattr(X, "chunks") and hasattr(X, "shape") and hasattr(X, "dtype"):
        return Feed(OnDisk(X))
    return None


def _feed_of_loader(loader: DataLoader) -> Feed:
    if loader.batch_size is None or not isinstance(loader.sampler, SequentialSampler):
        raise ValueError(
            "X as a DataLoader must give the same rows in the same order at every pass. "
            f"Got the sampler {type(loader.sampler).__name__}; pass shuffle=False and no sampler of your own."
        )
    source = Items(loader.dataset, loader.collate_fn, loader.num_workers)
    left_out = len(source) % loader.batch_size
    if loader.drop_last and left_out:
        raise ValueError(
            f"X as a DataLoader must give all rows. Got drop_last=True, which leaves out {left_out}; "
            "pass drop_last=False."
        )
    return Feed(source)


def _feed_of_list(X: Sequence[Any]) -> Feed | None:
    if len(X) and isinstance(X[0], Mapping):
        missing = [index for index, item in enumerate(X) if not isinstance(item, Mapping) or item.keys() != X[0].keys()]
        if missing:
            raise ValueError(
                f"Every dict of X must have the parts of the first, {list(X[0])}. That of row {missing[0]} has others; "
                "give all rows the same."
            )
        return Feed(Parts({name: _stacked(str(name), [item[name] for item in X]) for name in X[0]}))
    if len(X) and (isinstance(X[0], str | bytes) or type(X[0]).__name__ == "Encoding"):
        raise TypeError(
            f"X must hold numbers. Got a list of {type(X[0]).__name__}; let a step before this one turn text into "
            "tokens. If X was a dict of arrays, wrap it in `skorch.helper.SliceDict`: scikit-learn takes the keys of a "
            "plain dict for its rows."
        )
    return None


def _has_items_of_parts(X: Any) -> bool:
    """Whether X is a data set in all but its base class, such as one of Hugging Face's."""
    if isinstance(X, str | bytes) or not (hasattr(X, "__len__") and hasattr(X, "__getitem__")):
        return False
    return not any(hasattr(X, name) for name in ("dtype", "__array__", "__array_namespace__", "__dataframe__", "iloc"))


def _inputs_of(batch: Any) -> Tensor | Mapping[str, Any]:
    """Return what of a batch goes into the model."""
    if isinstance(batch, list | tuple) and 1 <= len(batch) <= 2:  # (x,) or (x, y)
        return _inputs_of(batch[0])
    if isinstance(batch, Mapping):
        return batch
    if isinstance(batch, np.ndarray):
        return torch.from_numpy(native(batch))
    if isinstance(batch, Tensor):
        return batch.detach()
    raise TypeError(
        "A batch of X must be a tensor, a dict of tensors, or one of them with a target, (x, y). "
        f"Got {type(batch).__name__}; let the items, or `collate_fn`, give the model's arguments by name."
    )


def _sliceable(name: str, values: Any) -> Any:
    if hasattr(values, "shape") and hasattr(values, "__getitem__"):
        return values.to_numpy() if hasattr(values, "to_numpy") else values
    return _stacked(name, values)


def _stacked(name: str, values: Any) -> np.ndarray:
    try:
        return np.stack([np.asarray(value) for value in values])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Part '{name}' of X must have rows of one shape. {error}; pad them, or pass a DataLoader "
            "with a `collate_fn` that does."
        ) from error


def _ranges(n_rows: int, size: int) -> list[range]:
    return [range(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]
