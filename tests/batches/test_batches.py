"""Feeding rows in their order."""

import numpy as np
import pytest
import torch

from sknfk.batches import Batches

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
