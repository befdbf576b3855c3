"""When the blocks of a solver are worth spreading over processes."""

import pytest
import torch

from sknfk.solvers import select_spread
from sknfk.solvers._orthonormal import held_rows, rows_in_all


def test_large_blocks_are_spread_on_processors_and_small_ones_are_whole():
    assert select_spread(2, 270_000, 138, "cpu")[0]
    assert not select_spread(2, 500, 14, "cpu")[0]


def test_fast_arithmetic_keeps_blocks_whole():
    assert not select_spread(2, 270_000, 138, "cuda")[0]


@pytest.mark.parametrize("n_processes", [2, 8, 1024])
def test_the_reason_names_what_is_saved_and_what_is_sent(n_processes):
    is_spread, reason = select_spread(n_processes, 100_000, 64, "cpu")
    words = reason.split()
    saved, sent = (float(words[words.index(word) + 1]) for word in ("saves", "for"))
    assert is_spread == (saved > sent)


def test_one_process_holds_all_rows_of_a_block():
    assert held_rows(7) == 7 and rows_in_all(torch.empty(7, 2)) == 7
