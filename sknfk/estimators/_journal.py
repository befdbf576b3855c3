"""What a fit has done so far, in a file, so that another process goes on from there."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..batches import BatchDigests
from ..distributed import ALONE, Peers
from ..exceptions import CheckpointMismatchError, CheckpointWarning
from ..persistence import as_json, previous_of, read_newest, safetensors_library, write_generation
from ..solvers import KrylovState, SubspaceState, pack_state, unpack_state

__all__ = ["Journal", "check_checkpoint"]

FORMAT = 2
# Within a pass, what is added up is written this often, in seconds; more rarely where writing it takes more than a
# twentieth of that.
WRITE_EVERY = 60.0
MOST_TIME_WRITING = 0.05

# Settings that may differ from those of the checkpoint: the fit then goes on from the basis found.
TARGETS = ("n_components", "tol", "max_sweeps")

State = KrylovState | SubspaceState


def check_checkpoint(path: str | os.PathLike, random_state: Any) -> None:
    """Refuse in words a checkpoint that cannot be written, or a fit that could not be the same again.

    Raises
    ------
    ValueError
        If the folder cannot be written to, or ``random_state`` is not an int.
    ImportError
        If the library that writes it is missing.
    """
    safetensors_library()
    folder = Path(path).absolute().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise ValueError(
            f"`checkpoint` must name a file in a folder that exists and can be written to. Got '{path}'; "
            "create the folder or name another."
        )
    if Path(path).is_dir():
        raise ValueError(f"`checkpoint` must name a file. Got the folder '{path}'; name a file in it.")
    if isinstance(random_state, bool) or not isinstance(random_state, Integral):
        raise ValueError(
            "`random_state` must be an int where `checkpoint` is given: a fit that goes on must be the same fit. "
            f"Got {random_state!r}; pass a number, such as 0."
        )


class Journal:
    """The state of a fit in a file of two generations.

    Parameters
    ----------
    path : str or path-like
        The newest generation; the one before has ".previous" at its end.
    identity : mapping of str to object
        What makes this fit this fit, by the words of a message, as :func:`sknfk.persistence.as_json` takes it.
    targets : mapping of str to object
        ``TARGETS``, as :func:`sknfk.persistence.as_json` takes it.
    plan : mapping of str to object
        Decisions of the fit, replaced by those of the checkpoint where there is one.
    device : device
        Where tensors of the checkpoint go.
    peers : Peers, default=ALONE
        The processes that fit together. The first of them reads and writes the file, after
        each sweep; within a pass each has sums of its own rows, and nothing is written.

    Attributes
    ----------
    statistics : dict of str to Tensor or None
        What the passes before the solver's have found; None while they go on.
    state : KrylovState, SubspaceState or None
        Of the last sweep; the solver judges it by what is asked for now.
    is_done : bool
        Whether the last sweep has met its targets and no more is asked for now.
    digests : BatchDigests
        Of the batches of X.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        identity: Mapping[str, Any],
        targets: Mapping[str, Any],
        plan: Mapping[str, Any],
        device: torch.device,
        peers: Peers = ALONE,
    ) -> None:
        self.path = Path(path)
        self.peers = peers
        self.device = device
        self.identity = as_json(dict(identity))
        self.targets = as_json(dict(targets))
        self.plan = dict(plan)
        self.statistics: dict[str, Tensor] | None = None
        self.state: State | None = None
        self.is_done = False
        self.digests = BatchDigests()
        self.generator: Tensor | None = None
        self._partial: tuple[int, int, dict[str, Tensor]] | None = None  # batches added, of how many, to these sums
        self._n_batches = self._n_added = 0
        self._written_at = time.monotonic()
        self._pause = WRITE_EVERY
        self._can_write = True
        if peers.from_first(lambda: self.path.exists() or previous_of(self.path).exists()):
            self._read()

    def begin(self, n_batches: int, sums: dict[str, Tensor]) -> int:
        """Begin a pass; put into ``sums`` what an earlier process had added up, and return of how many batches.

        Where blocks have other widths, as other components are asked for, the pass begins anew.
        """
        self._n_batches, self._n_added = n_batches, 0
        partial, self._partial = self._partial, None
        if partial is not None and partial[1] == n_batches and _shapes(partial[2]) == _shapes(sums):
            for name, total in sums.items():
                total.copy_(partial[2][name])
            self._n_added = partial[0]
        return self._n_added

    def batch(self, sums: dict[str, Tensor]) -> None:
        """Take note of one more batch, and write if it is time."""
        self._n_added += 1
        if sums and self.peers.is_alone and time.monotonic() - self._written_at >= self._pause:
            self.write(sums)

    def end(self) -> None:
        """End the pass."""
        self._n_added = 0

    def statistics_known(self, statistics: dict[str, Tensor], generator: torch.Generator) -> None:
        """Take note of all that the solver starts from, and write."""
        self.statistics, self.generator = statistics, generator.get_state()
        self.write()

    def swept(self, state: State, generator: torch.Generator) -> None:
        """Take note of a sweep, and write."""
        assert self.statistics is not None
        self.statistics.pop("start", None)  # a state holds its own blocks
        self.state, self.generator = state, generator.get_state()
        self.write()

    def write(self, sums: dict[str, Tensor] | None = None) -> None:
        """Write a generation. What cannot be written is warned of, once, and the fit goes on."""
        tensors: dict[str, Tensor] = {f"sums.{name}": total for name, total in (sums or {}).items()}
        tensors |= {f"statistics.{name}": value for name, value in (self.statistics or {}).items()}
        content: dict[str, Any] = {
            "format": FORMAT,
            "identity": self.identity,
            "targets": self.targets,
            "plan": self.plan,
            "digests": self.peers.gathered(self.digests.known, "digests"),
            "added": [self._n_added, self._n_batches] if sums else None,
            "has_statistics": self.statistics is not None,
            "state": None,
        }
        if self.generator is not None:
            tensors["generator"] = self.generator
        if self.state is not None:
            packed, content["state"] = pack_state(self.state)
            tensors |= {f"state.{name}": value for name, value in packed.items()}
        started = time.monotonic()
        try:
            if self.peers.leads:
                write_generation(self.path, tensors, content)
        except OSError as error:
            if self._can_write:
                warnings.warn(
                    f"`checkpoint`: {error} The fit goes on, and what was written before is still there.",
                    CheckpointWarning,
                    stacklevel=2,
                )
            self._can_write = False
        self._written_at = time.monotonic()
        self._pause = max(WRITE_EVERY, (self._written_at - started) / MOST_TIME_WRITING)

    def _read(self) -> None:
        tensors, content, damage = self.peers.from_first(lambda: read_newest(self.path))
        if damage is not None:
            warnings.warn(
                f"{damage} The fit goes on from '{previous_of(self.path)}', the generation before '{self.path}'.",
                CheckpointWarning,
                stacklevel=2,
            )
        self._check_identity(content)
        self.plan = content["plan"]
        self.digests = BatchDigests(self.peers.own(content["digests"]))
        self.generator = tensors.get("generator")
        if content["has_statistics"]:
            self.statistics = {name: t.to(self.device) for name, t in _within("statistics", tensors).items()}
        if content["state"] is not None:
            self.state = unpack_state(_within("state", tensors), content["state"], self.device)
            then, now = content["targets"], self.targets
            asks_more = now["n_components"] > then["n_components"] or now["tol"] < then["tol"]
            self.is_done = self.state.converged and not asks_more
        if content["added"] is not None:
            n_added, n_batches = content["added"]
            self._partial = (n_added, n_batches, _within("sums", tensors))

    def _check_identity(self, content: Any) -> None:
        stored = content.get("identity", {}) if isinstance(content, dict) else {}
        if content.get("format") != FORMAT or stored.keys() != self.identity.keys():
            raise CheckpointMismatchError(
                f"'{self.path}' must be a checkpoint of this version of the library, and it is not. "
                "Name another file, or remove it to start anew."
            )
        different = [name for name, value in self.identity.items() if stored[name] != value]
        if different:
            told = "; ".join(f"{name} was {stored[name]!r} and is {self.identity[name]!r}" for name in different)
            raise CheckpointMismatchError(
                f"'{self.path}' must be a checkpoint of the same fit. Got another: {told}. "
                "Give each fit a file of its own, or remove this one to start anew."
            )


def _shapes(sums: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: total.shape for name, total in sums.items()}


def _within(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
