"""Feeding rows in their order."""

import contextlib

import numpy as np
import pytest
import torch

from sknfk.batches import Batches, _batches

CPU = torch.device("cpu")


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batches_hold_all_rows_in_their_order(batch_size):
    X = np.arange(20.0).reshape(10, 2)
    batches = Batches(X, batch_size, CPU, torch.float64, (2,))
    assert torch.equal(torch.cat(list(batches)), torch.from_numpy(X))
    assert len(list(batches)) == len(batches) == -(-10 // batch_size)


def test_batches_can_be_visited_again_and_sliced():
    batches = Batches(np.arange(10.0)[:, None], 4, CPU, torch.float32, (1,))
    assert torch.equal(torch.cat(list(batches)), torch.cat(list(batches)))
    assert torch.cat(list(batches.slice(3, 8)))[:, 0].tolist() == [3, 4, 5, 6, 7]


def test_rows_are_reshaped_and_cast_for_the_model():
    (x,) = Batches(np.zeros((2, 12), dtype=np.uint8), 5, CPU, torch.float32, (3, 2, 2))
    assert x.shape == (2, 3, 2, 2)
    assert x.dtype == torch.float32


def test_tokens_stay_integers():
    (x,) = Batches(np.zeros((2, 3), dtype=np.int32), 5, CPU, None, (3,))
    assert x.dtype == torch.int64


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", "longdouble"])
def test_rows_in_a_dtype_that_torch_has_not_are_converted_batch_by_batch(dtype, tmp_path):
    path, X = tmp_path / "rows.npy", np.arange(6).reshape(3, 2)
    np.save(path, X.astype(dtype))
    for rows in (np.load(path), np.load(path, mmap_mode="r")):
        assert torch.equal(torch.cat(list(Batches(rows, 2, CPU, torch.float32, (2,)))), torch.from_numpy(X).float())
        assert torch.equal(torch.cat(list(Batches(rows, 2, CPU, None, (2,)))), torch.from_numpy(X))


def test_changing_a_batch_leaves_the_array_as_it_was(tmp_path):
    X = np.ones((4, 2))
    for x in Batches(X, 2, CPU, torch.float64, (2,)):
        x.zero_()
    assert (X == 1).all()


def test_a_read_only_memory_map_is_read_without_warning(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.arange(6.0).reshape(3, 2))
    mapped = np.load(path, mmap_mode="r")
    assert torch.cat(list(Batches(mapped, 2, CPU, torch.float64, (2,)))).sum() == 15


class Stream:
    """Notes what a stream of the GPU is asked to do."""

    def __init__(self, name, notes):
        self.name, self.notes = name, notes

    def wait_stream(self, other):
        self.notes.append(f"{self.name} waits for {other.name}")


class Sent:
    """A batch that notes which stream still uses it."""

    def __init__(self, number, notes):
        self.number, self.notes = number, notes
        notes.append(f"{number} is sent")

    def record_stream(self, stream):
        self.notes.append(f"{self.number} belongs to {stream.name}")


def test_a_batch_is_sent_before_the_one_ahead_of_it_is_worked_on(monkeypatch):
    notes: list[str] = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("work", notes))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("travel", notes))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    for x in _batches._one_ahead((Sent(number, notes) for number in range(3)), torch.device("cuda")):
        notes.append(f"{x.number} is worked on")
    assert notes == [
        "travel waits for work",
        "0 is sent",
        *("work waits for travel", "0 belongs to work", "1 is sent", "0 is worked on"),
        *("work waits for travel", "1 belongs to work", "2 is sent", "1 is worked on"),
        *("work waits for travel", "2 belongs to work", "2 is worked on"),
    ]


@pytest.mark.gpu
@pytest.mark.parametrize("on_gpu", [False, True])
def test_batches_that_travel_ahead_hold_the_rows_of_the_caller(on_gpu):
    X = torch.arange(64 * 500_000, dtype=torch.float64).reshape(64, -1).remainder(1009)
    rows = X.cuda() if on_gpu else X.numpy()
    square = torch.ones(2_000, 2_000, device="cuda")
    found = []
    for x in Batches(rows, 8, torch.device("cuda"), torch.float32, (500_000,)):
        for _ in range(20):  # work that takes longer than the next copy
            square = (square @ square).clamp(max=1)
        found.append(x.sum(1, dtype=torch.float64))
    torch.testing.assert_close(torch.cat(found).cpu(), X.sum(1))
