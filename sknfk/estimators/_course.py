"""The course of a fit, as its journal and its callbacks follow it."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import joblib
import numpy as np
import torch
from torch import Tensor

from .._portable import fingerprint, without_addresses
from .._sklearn import to_host
from ..batches import BatchDigests
from ..fisher import FisherStatistics, Moments
from ._content import content_digest
from ._journal import TARGETS, Journal, State
from ._plan import Plan
from ._progress import Progress
from ._rows import rows_of
from ._setup import Setup

__all__ = ["Course", "open_journal", "require_one_fit"]


class Course:
    """What a fit tells of its passes, and what it can go on from.

    Parameters
    ----------
    journal : Journal or None
        Where a checkpoint is kept.
    progress : Progress or None
        Whom callbacks are told by.
    """

    def __init__(self, journal: Journal | None = None, progress: Progress | None = None) -> None:
        self.journal = journal
        self.progress = progress

    @property
    def state(self) -> State | None:
        """The solver's state to go on from."""
        return None if self.journal is None else self.journal.state

    @property
    def digests(self) -> BatchDigests | None:
        """What the batches of X must be."""
        return None if self.journal is None else self.journal.digests

    @property
    def goes_on(self) -> bool:
        """Whether an earlier process has seen rows of X."""
        return self.digests is not None and bool(self.digests.known)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do but to take the components from the last state."""
        return self.journal is not None and self.journal.is_done

    def begin(self, n_batches: int, sums: dict[str, Tensor]) -> int:
        """Begin a pass; return how many of its batches are in ``sums`` already."""
        n_added = 0 if self.journal is None else self.journal.begin(n_batches, sums)
        if self.progress is not None:
            self.progress.begin(n_batches, n_added)
        return n_added

    def batch(self, sums: dict[str, Tensor]) -> None:
        """Take note of one more batch."""
        if self.journal is not None:
            self.journal.batch(sums)
        if self.progress is not None:
            self.progress.batch()

    def end(self) -> None:
        """End the pass."""
        if self.journal is not None:
            self.journal.end()

    def statistics(self) -> tuple[FisherStatistics, Moments, Tensor | None] | None:
        """Return what an earlier process has found before its first sweep, and the block it started from."""
        known = None if self.journal is None else self.journal.statistics
        if known is None:
            return None
        moments = Moments(known["mean"], known["mean_square"], int(known["n_rows"]))
        return FisherStatistics(known["mean_score"], known["information"]), moments, known.get("start")

    def statistics_known(
        self, statistics: FisherStatistics, moments: Moments, start: Tensor | None, generator: torch.Generator
    ) -> None:
        """Take note of all that the solver starts from."""
        if self.progress is not None:
            self.progress.statistics_known()
        if self.journal is not None:
            known = {
                "mean_score": statistics.mean_score,
                "information": statistics.information,
                "mean": moments.mean,
                "mean_square": moments.mean_square,
                "n_rows": torch.tensor(moments.n_rows),
            }
            self.journal.statistics_known(known if start is None else {**known, "start": start}, generator)

    def restore(self, generator: torch.Generator) -> None:
        """Put a generator where that of the earlier process was."""
        if self.progress is not None:
            self.progress.statistics_known()
        if self.journal is not None and self.journal.generator is not None:
            generator.set_state(self.journal.generator)

    def swept(self, state: State, generator: torch.Generator) -> bool:
        """Take note of a sweep; return whether a callback asks the fit to stop."""
        if self.journal is not None:
            self.journal.swept(state, generator)
        return self.progress is not None and self.progress.swept()


def open_journal(options: Any, setup: Setup, X: Any, plan: Plan) -> tuple[Journal | None, Plan]:
    """Open the checkpoint of a fit; return it and the plan, the stored one where there is one.

    Raises
    ------
    CheckpointMismatchError
        If it is of another fit.
    DamagedFileError
        If no generation of it is whole.
    """
    if options.checkpoint is None:
        return None, plan
    targets = {name: getattr(options, name) for name in TARGETS}
    stored = asdict(plan) | {"products": str(plan.products)}
    identity = _identity(options, setup, X)
    journal = Journal(options.checkpoint, identity, targets, stored, setup.device, setup.peers)
    name = journal.plan["products"].removeprefix("torch.")
    return journal, replace(plan, **(journal.plan | {"products": getattr(torch, name)}))


def require_one_fit(options: Any, setup: Setup, X: Any) -> None:
    """Refuse what cannot be one fit of several processes, each with its rows.

    Raises
    ------
    ValueError
        If their options or models differ, or they have the same rows.
    """
    if options.memory is not None:
        raise ValueError(
            f"`memory` must be None where several processes fit together. Got {options.memory!r}; fit once with the "
            "largest `n_components`, and take smaller ranks by `truncate`."
        )
    settings = _identity(options, setup, X) | {f"`{name}`": getattr(options, name) for name in TARGETS}
    settings |= {"`max_components`": options.max_components, "`checkpoint`": str(options.checkpoint)}
    del settings["`random_state`"]  # that of the first counts
    setup.peers.require_same(settings, "let all of them make the same estimator from the same weights")
    replace(setup.batches(rows_of(X)), peers=setup.peers).require_own_rows()


def _identity(options: Any, setup: Setup, X: Any) -> dict[str, Any]:
    """Return what makes a fit this fit, by the words of a message."""
    names = setup.parameters.names
    solving = ("solver", "sketch_width", "n_oversamples", "gradient_cache")
    settings = ("fisher", "center", "damping", "n_reference", *solving)
    return {
        "the digest of `model`": fingerprint(setup.module)[:16],
        "`density`": without_addresses(repr(setup.density)),
        "the digest of what `density` holds": content_digest(setup.density)[:16],
        "the digest of `parameters`": f"{joblib.hash(list(names))[:16]} of {len(names)}",
        "the shape of X": [setup.n_rows_in_all(X), *X.shape[1:]],
        "the rows of each process": list(setup.peers.n_rows),
        "the dtype of X": str(X.dtype),
        "the dtype of products": str(setup.dtype),
        "the engine": setup.engine.name,
        "`statistics`": options.statistics if isinstance(options.statistics, str) else _digest_of_array(options),
        **{f"`{name}`": getattr(options, name) for name in settings},
        "`batch_size`": options.batch_size,
        "`max_memory`": options.max_memory,
        "`random_state`": options.random_state,
    }


def _digest_of_array(options: Any) -> str:
    rows = to_host(options.statistics)
    return joblib.hash(rows.cpu().numpy() if isinstance(rows, Tensor) else np.array(rows))[:16]
