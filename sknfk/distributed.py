"""One fit on several processes: the only file that names ``torch.distributed``.

Processes that ``torchrun`` starts, and that have called ``torch.distributed.init_process_group``, fit together: each
passes its own rows, sums over rows are over all of them, and every process gets the same components.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from .exceptions import OtherProcessError

__all__ = ["ALONE", "Peers", "alone", "together"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Failure:
    """What a process tells the others in the place of what they expect."""

    text: str


@dataclass(frozen=True)
class Peers:
    """The processes that fit together, each with its own rows.

    Every exchange begins by asking whether all processes have come to it: what has failed
    in one of them, or has taken another course there, ends the others with an error and
    leaves none waiting. With one process, all are what they were given.

    Parameters
    ----------
    rank : int, default=0
        Which of them this one is.
    size : int, default=1
        How many they are.
    n_rows : tuple of int, default=()
        How many rows each of them has; empty with one process.
    """

    rank: int = 0
    size: int = 1
    n_rows: tuple[int, ...] = ()

    @property
    def is_alone(self) -> bool:
        """Whether there is one process."""
        return self.size == 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes what all of them know."""
        return self.rank == 0

    def gathered(self, value: Any, what: str = "a value") -> list[Any]:
        """Return what each process gives, in their order.

        Parameters
        ----------
        value : object
            What this one gives; it is pickled.
        what : str
            Its name, the same in all of them.

        Returns
        -------
        list
            One value of each process.

        Raises
        ------
        OtherProcessError
            If another process has failed, ended, or gives something else.
        """
        if self.is_alone:
            return [value]
        told = self._exchanged((what, value))
        names = [name for name, _ in told]
        if len(set(names)) > 1:
            raise OtherProcessError(
                f"All processes must take the same course. Got {', '.join(map(repr, names))} from them in turn; let "
                "machines, libraries and numbers of threads be the same, and call the same methods in each process."
            )
        return [value for _, value in told]

    def from_first(self, function: Callable[[], Result]) -> Result:
        """Call a function in the first process alone, and return its result in all.

        Parameters
        ----------
        function : callable
            Its result is pickled.

        Returns
        -------
        object
            What it returns.
        """
        return self.gathered(function() if self.leads else None, "what the first has")[0]

    def own(self, values: Sequence[Result]) -> Result:
        """Return this process's of values that were gathered."""
        return values[self.rank]

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return any(self.gathered(flag, "a flag"))

    def require_same(self, values: dict[str, Any], remedy: str) -> None:
        """Refuse values that differ between the processes.

        Parameters
        ----------
        values : dict of str to object
            By their names, in the words of the message.
        remedy : str
            What to do, after "; ".

        Raises
        ------
        ValueError
            If one of them differs, in all processes.
        """
        for found in self.gathered(values, "settings"):
            for name, first in values.items():
                if found[name] != first:
                    raise ValueError(
                        f"{name} must be the same in every process. Got {first!r} and {found[name]!r}; {remedy}."
                    )

    def total(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors, in place, by their sums over all processes.

        Cost: an all-reduce of each.

        Parameters
        ----------
        tensors : iterable of Tensor
            Contiguous, of the same shapes in all processes.
        """
        if self.is_alone:
            return
        tensors = list(tensors)
        self.gathered(None, f"sums of shapes {[tuple(t.shape) for t in tensors]}")
        for tensor in tensors:
            _answered(functools.partial(dist.all_reduce, tensor))

    def joined(self, part: Tensor) -> Tensor:
        """Return rows that are spread over the processes, all of them in each.

        Cost: an all-reduce of all rows; gloo's own all-gather takes longer.

        Parameters
        ----------
        part : Tensor of shape (rows of this process, L)
            Its own, as many as ``n_rows`` says.

        Returns
        -------
        Tensor of shape (sum of n_rows, L)
            The rows of all, in the processes' order.
        """
        if self.is_alone:
            return part
        whole = part.new_zeros(sum(self.n_rows), *part.shape[1:])
        whole[self.part] = part
        self.total([whole])
        return whole

    @property
    def part(self) -> slice:
        """Which of all rows are those of this process."""
        start = sum(self.n_rows[: self.rank])
        return slice(start, start + self.n_rows[self.rank])

    def with_rows(self, n_rows: int) -> Peers:
        """Return these processes, knowing how many rows each has."""
        return self if self.is_alone else replace(self, n_rows=tuple(self.gathered(n_rows, "the number of rows")))

    def share(self, n_rows: int) -> tuple[slice, Peers]:
        """Return this process's part of rows that all hold, and who has how many."""
        starts = [rank * n_rows // self.size for rank in range(self.size + 1)]
        counts = tuple(stop - start for start, stop in itertools.pairwise(starts))
        return slice(starts[self.rank], starts[self.rank + 1]), replace(self, n_rows=counts)

    def first_rows(self, rows: Tensor, n_rows: int) -> Tensor:
        """Return the first rows of all processes' rows in a line.

        Parameters
        ----------
        rows : Tensor of shape (at most n_rows, ...)
            The first of this process.
        n_rows : int
            How many are wanted.

        Returns
        -------
        Tensor of shape (at most n_rows, ...)
            On the device of ``rows``, the same in all processes.
        """
        if self.is_alone:
            return rows
        before = sum(self.n_rows[: self.rank])
        mine = rows[: max(0, n_rows - before)].cpu()
        parts = [part for part in self.gathered(mine, "first rows") if len(part)]
        return torch.cat(parts).to(rows.device)

    def n_sharing(self, device: torch.device) -> int:
        """Return how many of the processes compute on this process's device."""
        index = torch.cuda.current_device() if device.type == "cuda" and device.index is None else device.index
        mine = (socket.gethostname(), device.type, index)
        return self.gathered(mine, "the device").count(mine)

    def _exchanged(self, message: Any) -> list[Any]:
        told: list[Any] = [None] * self.size
        _answered(lambda: dist.all_gather_object(told, message))
        failed = [(rank, one.text) for rank, one in enumerate(told) if isinstance(one, _Failure)]
        if failed:
            rank, text = failed[0]
            raise OtherProcessError(f"Process {rank} of {self.size} that fit together has failed: {text}")
        return told


ALONE = Peers()
_ALONE = contextvars.ContextVar("sknfk_alone", default=False)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let fits be of this process only, whatever group it belongs to.

    For a fit that one process of a group makes while the others do something else.

    Yields
    ------
    None
        Nothing.

    Examples
    --------
    >>> from sknfk.distributed import alone
    >>> with alone():
    ...     pass  # transformer.fit(X)
    """
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


@contextlib.contextmanager
def together() -> Iterator[Peers]:
    """Work with the processes of the group; what fails in one of them fails in all.

    Yields
    ------
    Peers
        Them; this process alone where there is no group.

    Raises
    ------
    OtherProcessError
        If another process fails or ends meanwhile.
    RuntimeError
        If ``torchrun`` has started several processes that have not joined.
    """
    peers = _current()
    if peers.is_alone:
        yield peers
        return
    try:
        yield peers
        peers.gathered(None, "the end")
    except OtherProcessError:
        raise
    except Exception as error:
        with contextlib.suppress(OtherProcessError):  # the error at hand is the one to tell
            peers._exchanged(_Failure(str(error) or type(error).__name__))
        raise


def _current() -> Peers:
    if _ALONE.get() or not dist.is_available():
        return ALONE
    if dist.is_initialized():
        return Peers(dist.get_rank(), dist.get_world_size())
    if dist.is_torchelastic_launched() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RuntimeError(
            f"The {os.environ['WORLD_SIZE']} processes of `torchrun` must join before they fit together. Got no "
            "process group; call `torch.distributed.init_process_group()` first, or fit within "
            "`sknfk.distributed.alone()`."
        )
    return ALONE


def _answered(exchange: Callable[[], Any]) -> None:
    """Exchange, or say in words that another process did not answer."""
    try:
        exchange()
    except RuntimeError as error:  # of the connection, or its timeout
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OtherProcessError(
            "All processes that fit together must run to the end. One has ended or does not answer "
            f"({first_line}). Start them again; a fit with `checkpoint` goes on from there."
        ) from error
