"""The measure of memory itself."""

import torch

from .memory import peak_bytes

MEGABYTE = 10**6
# What torch allocates beside, for its own bookkeeping.
SLACK = 1000


def numbers(n_megabytes):
    return torch.zeros(n_megabytes * MEGABYTE // 4)


def test_the_peak_is_what_was_held_at_once():
    def three_at_once():
        first = numbers(1)
        second = first + 1  # two
        del first
        third = second * 2 + second  # a temporary one: three
        return third

    assert abs(peak_bytes(three_at_once) - 3 * MEGABYTE) < SLACK
    assert abs(peak_bytes(lambda: [numbers(1).sum() for _ in range(5)]) - MEGABYTE) < SLACK


def test_what_was_there_before_does_not_count():
    kept = numbers(8)
    assert abs(peak_bytes(lambda: kept[: MEGABYTE // 4] + 1) - MEGABYTE) < SLACK
    assert abs(peak_bytes(lambda: kept[: MEGABYTE // 4]) - 0) < SLACK
