"""One visit to the data: who watches it, and what happens where memory gives out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from .._torch import is_out_of_memory, release_memory
from ..batches import Batches, RowLimit
from ..distributed import Peers
from ..exceptions import ExampleTooLargeError
from ..gradients import Engine, GradientBlock

__all__ = ["FormedRows", "RowSource", "Sums", "Unwatched", "Watch", "all_blocks", "formed", "on_less_memory", "visit"]

Sums = dict[str, Tensor]

Result = TypeVar("Result")


class RowSource(Protocol):
    """Where the gradients of N rows come from, batch by batch.

    ``can_skip`` says whether a visit may leave out its first batches.
    """

    @property
    def limit(self) -> RowLimit: ...

    @property
    def rows_at_once(self) -> int: ...

    @property
    def can_skip(self) -> bool: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def peers(self) -> Peers: ...

    def __len__(self) -> int:
        """Return the number of batches of the next visit."""
        ...

    def visits(self, first: int = 0) -> Iterator[Iterator[tuple[GradientBlock, int]]]:
        """Yield the blocks of each batch and their numbers of rows, but for the first batches."""
        ...


class FormedRows:
    """Gradients formed anew at every visit.

    Parameters
    ----------
    engine : Engine
        Gives the gradients of rows.
    batches : Batches
        The N rows.
    """

    can_skip = True

    def __init__(self, engine: Engine, batches: Batches) -> None:
        self.engine = engine
        self.batches = batches

    @property
    def limit(self) -> RowLimit:
        """How many rows are formed at once."""
        return self.batches.limit

    @property
    def rows_at_once(self) -> int:
        """Rows of a batch."""
        return self.batches.batch_size

    @property
    def device(self) -> torch.device:
        """Where the rows go."""
        return self.batches.device

    @property
    def peers(self) -> Peers:
        """The processes that hold the other rows."""
        return self.batches.peers

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.batches)

    def visits(self, first: int = 0) -> Iterator[Iterator[tuple[GradientBlock, int]]]:
        """Yield the blocks of each batch, one until memory gives out, and their numbers of rows."""
        for x in self.batches.after(first):
            yield formed(self.engine, x, self.limit)


def formed(engine: Engine, x: Tensor, limit: RowLimit) -> Iterator[tuple[GradientBlock, int]]:
    """Yield the gradients of rows with their number, in halves where memory gives out.

    Parameters
    ----------
    engine : Engine
        Gives the gradients of rows.
    x : Tensor of shape (B, *input)
        Rows.
    limit : RowLimit
        Lowered where they are too many.

    Raises
    ------
    ExampleTooLargeError
        If the gradient of one row is too much.
    """
    start = 0
    while start < len(x):
        part = x[start : start + (limit.n_rows or len(x))]
        block = _formed_or_none(engine, part)
        if block is None:  # outside the exception, whose traceback would keep the memory
            limit.halve(len(part))
            release_memory(x.device)
        else:
            yield block, len(part)
            start += len(part)


def _formed_or_none(engine: Engine, x: Tensor) -> GradientBlock | None:
    try:
        return engine(x)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None


class Watch(Protocol):
    """Sees visits go by: shows progress, keeps what they have added up so far."""

    def begin(self, n_batches: int, sums: Sums) -> int:
        """Begin a visit, and return how many batches to leave out.

        Parameters
        ----------
        n_batches : int
            Batches of the visit.
        sums : dict of str to Tensor
            What they are added to. Where an earlier process has come some way, its sums
            are put there; empty where a visit cannot leave out batches.

        Returns
        -------
        int
            Batches that are in the sums already.
        """
        ...

    def batch(self, sums: Sums) -> None:
        """Take note of one more batch.

        Parameters
        ----------
        sums : dict of str to Tensor
            What it was added to.
        """
        ...

    def end(self) -> None:
        """End the visit."""
        ...


class Unwatched:
    """Nobody watches."""

    def begin(self, n_batches: int, sums: Sums) -> int:
        """Begin at the first batch."""
        return 0

    def batch(self, sums: Sums) -> None:
        """Take note of nothing."""

    def end(self) -> None:
        """End the visit."""


def visit(
    source: RowSource, sums: Sums, add: Callable[[GradientBlock], None], watch: Watch, joined: bool = True
) -> None:
    """Add every block to the sums, once; the sums are over the rows of all processes.

    Memory that gives out while a block is formed costs that block; while it is added, when
    no one knows how far that has come, the visit.

    Parameters
    ----------
    source : RowSource
        Where the blocks come from.
    sums : dict of str to Tensor
        What ``add`` adds to, in place; zero.
    add : callable
        Takes a block.
    watch : Watch
        Is told of each batch.
    joined : bool, default=True
        False leaves sums over the rows of this process.
    """
    first = watch.begin(len(source), sums if source.can_skip else {})
    is_again = False

    def add_all() -> None:
        nonlocal first, is_again
        if is_again:
            first = 0
            for total in sums.values():
                total.zero_()
        is_again = True
        for blocks in source.visits(first):
            for block, _ in blocks:
                add(block)
            watch.batch(sums)

    on_less_memory(add_all, source)
    watch.end()
    if joined:
        source.peers.total(sums.values())


def on_less_memory(work: Callable[[], Result], source: RowSource) -> Result:
    """Do what goes over the rows, again with fewer at once while memory gives out.

    Parameters
    ----------
    work : callable
        Starts anew each time.
    source : RowSource
        Whose limit is lowered.

    Returns
    -------
    object
        What it returns.

    Raises
    ------
    ExampleTooLargeError
        If one row is too much.
    """
    while True:
        try:
            return work()
        except Exception as error:
            if not is_out_of_memory(error) or isinstance(error, ExampleTooLargeError):
                raise
        source.limit.halve(source.limit.n_rows or source.rows_at_once)
        release_memory(source.device)


def all_blocks(source: RowSource) -> Iterator[tuple[GradientBlock, int]]:
    """Yield the blocks of a visit that nobody watches, and their numbers of rows."""
    return itertools.chain.from_iterable(source.visits())
