"""What X may be beside an array: read in any batches, each gives the rows of the arrays it was made of."""

import numpy as np
import pytest
import torch
from skorch.helper import SliceDataset, SliceDict
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from sknfk.batches import BatchDigests, Batches, Feed, as_feed
from sknfk.exceptions import DataChangedError

N = 11


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    return {
        "ids": rng.integers(0, 2**40, (N, 4)),
        "mask": rng.integers(0, 2, (N, 4)).astype(bool),
        "image": rng.normal(size=(N, 2, 3)).astype(np.float32),
        "age": rng.normal(size=N),
    }


class Rows(Dataset):
    """Items of parts, with a target."""

    def __init__(self, parts, with_target=True):
        self.parts, self.with_target = parts, with_target

    def __len__(self):
        return N

    def __getitem__(self, index):
        item = {name: torch.as_tensor(values[index]) for name, values in self.parts.items()}
        return (item, index) if self.with_target else item


class NotATorchDataset:
    """As those of Hugging Face are."""

    def __init__(self, parts):
        self.parts = parts

    def __len__(self):
        return N

    def __getitem__(self, index):
        return {name: values[index] for name, values in self.parts.items()}


class OnDisk:
    """As h5py and zarr have them: slices are read, and nothing else."""

    def __init__(self, values):
        self.values = values
        self.shape, self.dtype, self.chunks = values.shape, values.dtype, (3, *values.shape[1:])
        self.largest = 0

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        self.largest = max(self.largest, rows.stop - rows.start)
        return self.values[rows]


class Encoded(dict):
    """Stands for what a tokenizer returns."""


KINDS = {
    "dict": dict,
    "dict of lists": lambda parts: {name: values.tolist() for name, values in parts.items()},
    "dict of tensors": lambda parts: {name: torch.from_numpy(values) for name, values in parts.items()},
    "SliceDict": lambda parts: SliceDict(**parts),
    "a tokenizer's": Encoded,
    "list of dicts": lambda parts: [{name: values[i] for name, values in parts.items()} for i in range(N)],
    "Dataset of pairs": Rows,
    "Dataset": lambda parts: Rows(parts, with_target=False),
    "Subset": lambda parts: Subset(Rows(parts), range(N)),
    "another library's data set": NotATorchDataset,
    "DataLoader": lambda parts: DataLoader(Rows(parts), batch_size=4),
    "SliceDataset": lambda parts: SliceDataset(Rows(parts), idx=0),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 4, N])
def test_parts_come_back_as_they_went_in_whatever_the_batches(kind, size, parts):
    feed = as_feed(KINDS[kind](parts))
    assert isinstance(feed, Feed)
    assert (len(feed), feed.shape[0]) == (N, N)
    found = [feed.fields.unpack(x, torch.float64) for x in Batches(feed, size, torch.device("cpu"), feed.dtype, None)]
    for name, values in parts.items():
        column = torch.cat([batch[name] for batch in found])
        assert column.dtype == {"b": torch.bool, "i": torch.int64, "f": torch.float64}[values.dtype.kind]
        np.testing.assert_array_equal(column.numpy(), values)


def test_integers_alone_stay_integers_when_packed(parts):
    large = {"ids": np.array([[2**62 + 1], [2**62 + 3]])}
    feed = as_feed(large)
    assert feed.dtype == torch.int64
    np.testing.assert_array_equal(feed.fields.unpack(feed[:], torch.float32)["ids"], large["ids"])


TENSORS = {
    "TensorDataset": lambda values: TensorDataset(torch.from_numpy(values), torch.zeros(N)),
    "DataLoader": lambda values: DataLoader(TensorDataset(torch.from_numpy(values)), batch_size=2),
    "workers": lambda values: DataLoader(TensorDataset(torch.from_numpy(values)), batch_size=2, num_workers=1),
    "SliceDataset": lambda values: SliceDataset(TensorDataset(torch.from_numpy(values)), idx=0),
    "an array on disk": OnDisk,
}


@pytest.mark.parametrize("kind", TENSORS)
def test_rows_of_one_tensor_are_not_packed(kind):
    values = np.random.default_rng(0).normal(size=(N, 2, 3)).astype(np.float32)
    feed = as_feed(TENSORS[kind](values))
    assert feed.fields is None
    assert feed.shape == (N, 2, 3)
    found = list(Batches(feed, 4, torch.device("cpu"), torch.float32, (2, 3)))
    assert [len(x) for x in found] == [4, 4, 3]
    np.testing.assert_array_equal(torch.cat(found), values)


def test_an_array_on_disk_is_read_a_batch_at_a_time():
    array = OnDisk(np.random.default_rng(0).normal(size=(N, 3)))
    list(Batches(as_feed(array), 4, torch.device("cpu"), torch.float64, (3,)))
    assert array.largest == 4


@pytest.mark.parametrize("dtype", [">f4", ">i2", "longdouble"])
def test_dtypes_that_torch_has_not_are_converted_in_parts_and_on_disk(dtype):
    values = np.arange(3 * N).reshape(N, 3)
    np.testing.assert_array_equal(as_feed(OnDisk(values.astype(dtype)))[2:9], values[2:9])
    parts = as_feed({"a": values.astype(dtype)})
    np.testing.assert_array_equal(parts.fields.unpack(parts[:], torch.float64)["a"], values)


@pytest.mark.parametrize("library", ["h5py", "zarr"])
def test_arrays_of_libraries_on_disk_are_read(library, tmp_path):
    package = pytest.importorskip(library)
    values = np.random.default_rng(0).normal(size=(N, 3))
    if library == "h5py":
        array = package.File(tmp_path / "rows.h5", "w").create_dataset("rows", data=values)
    else:
        array = package.open_array(tmp_path / "rows.zarr", mode="w", shape=values.shape, chunks=(4, 3), dtype="f8")
        array[:] = values
    np.testing.assert_array_equal(as_feed(array)[2:9], values[2:9])


class Ragged(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, index):
        return {"ids": torch.arange(1 + index % 3), "mask": torch.ones(1 + index % 3, dtype=torch.bool)}


def padded(items):
    return {
        name: torch.nn.utils.rnn.pad_sequence([item[name] for item in items], batch_first=True) for name in items[0]
    }


def test_batches_may_be_padded_to_lengths_of_their_own():
    feed = as_feed(DataLoader(Ragged(), batch_size=3, collate_fn=padded))
    assert feed.source.varies
    shapes = [tuple(feed.fields.unpack(feed[i : i + 1], torch.float32)["ids"].shape) for i in range(3)]
    assert shapes == [(1, 1), (1, 2), (1, 3)]
    together = feed.fields.unpack(feed[:3], torch.float32)
    np.testing.assert_array_equal(together["ids"], [[0, 0, 0], [0, 1, 0], [0, 1, 2]])
    np.testing.assert_array_equal(together["mask"].sum(1), [1, 2, 3])


def test_rows_that_change_between_passes_are_found_out():
    class Augmented(Dataset):
        def __len__(self):
            return N

        def __getitem__(self, index):
            return torch.randn(3)

    batches = Batches(as_feed(Augmented()), 4, torch.device("cpu"), torch.float32, (3,), BatchDigests())
    list(batches)
    with pytest.raises(DataChangedError, match="shuffle=False"):
        list(batches)


def test_digests_are_of_the_rows():
    values = np.random.default_rng(0).normal(size=(N, 3))
    same, other = values.copy(), values + 1e-12
    digests = [as_feed(TensorDataset(torch.from_numpy(array))).digest() for array in (values, same, other)]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    "X", [np.zeros((3, 2)), [[1.0, 2.0]], torch.zeros(3, 2), "text", 3, None], ids=lambda X: type(X).__name__
)
def test_what_scikit_learn_validates_is_left_to_it(X):
    assert as_feed(X) is None


class Endless(IterableDataset):
    def __iter__(self):
        return iter(torch.zeros(3, 2))


ROWS = TensorDataset(torch.zeros(N, 2))
REFUSED = {
    "shuffled": (lambda: DataLoader(ROWS, shuffle=True), ValueError, "pass shuffle=False"),
    "dropped": (lambda: DataLoader(ROWS, 4, drop_last=True), ValueError, "leaves out 3; pass drop_last=False"),
    "a batch sampler": (
        lambda: DataLoader(ROWS, batch_sampler=[[0, 1], [2]]),
        ValueError,
        "no sampler of your own",
    ),
    "iterable": (Endless, TypeError, "map-style data set"),
    "iterable in a loader": (lambda: DataLoader(Endless()), TypeError, "map-style data set"),
    "text": (lambda: ["some", "words"], TypeError, "wrap it in `skorch.helper.SliceDict`"),
    "an empty dict": (dict, ValueError, "Got an empty one"),
    "an empty data set": (lambda: TensorDataset(torch.zeros(0, 2)), ValueError, "at least one row"),
    "parts of other lengths": (lambda: {"a": np.zeros(3), "b": np.zeros(4)}, ValueError, "same number of rows"),
    "ragged parts": (lambda: {"a": [[1, 2], [3]]}, ValueError, "Part 'a' of X must have rows of one shape"),
    "parts of text": (lambda: {"a": np.array(["x", "y"])}, ValueError, "Part 'a' of X must be an array of numbers"),
    "dicts of other parts": (lambda: [{"a": 1.0}, {"b": 1.0}], ValueError, "That of row 1 has others"),
    "ragged items": (lambda: [{"a": [1]}, {"a": [1, 2]}], ValueError, "Part 'a' of X must have rows of one shape"),
    "lists in items": (
        lambda: NotATorchDataset({"a": [[1, 2, 3]] * N}),
        ValueError,
        "let items hold tensors, not lists",
    ),
    "three in an item": (
        lambda: TensorDataset(torch.zeros(3, 1), torch.zeros(3), torch.zeros(3)),
        TypeError,
        "give the model's arguments by name",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_again_in_the_same_order_is_refused_in_words(name):
    make, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        as_feed(make())


@pytest.mark.parametrize("n_workers", [0, 1])
def test_a_collate_fn_that_leaves_out_items_is_refused_in_words(n_workers):
    def without_the_last(items):
        return default_collate([item for item in items if item[0][0] < N - 1])

    loader = DataLoader(TensorDataset(torch.arange(N)[:, None]), collate_fn=without_the_last, num_workers=n_workers)
    feed = as_feed(loader)
    assert len(feed[: N - 1]) == N - 1
    for read in (lambda: feed[:], lambda: list(feed.in_batches([range(4), range(4, N)]))):
        with pytest.raises(ValueError, match="must have one row for each item"):
            read()


def test_padding_that_leaves_parts_of_other_shapes_in_rows_of_one_width_is_refused():
    feed = as_feed({"a": np.zeros((3, 2)), "b": np.zeros((3, 1))})
    with pytest.raises(ValueError, match="must have the same parts"):
        feed.fields.pack({"a": np.zeros((3, 1)), "b": np.zeros((3, 2))})
