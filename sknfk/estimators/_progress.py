"""A fit as scikit-learn's callbacks see it: passes over X, and the batches of each."""

from __future__ import annotations

from typing import Any

from .._sklearn import has_callbacks

__all__ = ["Progress"]


class Progress:
    """Tells callbacks of passes and batches, and hears whether to stop.

    Without callbacks it does nothing. A pass is a task of the fit, named "statistics" or
    "sweep", a batch a task of the pass.

    Parameters
    ----------
    estimator : estimator
        The one that is fitted; ``set_callbacks`` has given it its callbacks.
    X, y : array-like
        What it is fitted on.
    n_passes : int
        At most; fewer where the solver meets its tolerance.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, n_passes: int) -> None:
        self._given = {"estimator": estimator, "X": X, "y": y}
        self._root: Any = None
        self._pass: Any = None
        self._next = "statistics"
        if has_callbacks(estimator):
            self._root = estimator._init_callback_context(max_subtasks=n_passes)
            self._root.call_on_fit_task_begin(**self._given)

    def begin(self, n_batches: int, n_added: int) -> None:
        """Begin a pass of so many batches, some of which an earlier process has seen."""
        if self._root is not None:
            self._pass = self._root.subcontext(task_name=self._next, max_subtasks=n_batches)
            self._pass.call_on_fit_task_begin(**self._given)
            for _ in range(n_added):
                self.batch()

    def batch(self) -> None:
        """Take note of one more batch."""
        if self._pass is not None:
            batch = self._pass.subcontext(task_name="batch")
            batch.call_on_fit_task_begin(**self._given)
            batch.call_on_fit_task_end(**self._given)

    def statistics_known(self) -> None:
        """End the pass of the statistics; what follows are sweeps."""
        self._end()
        self._next = "sweep"

    def swept(self) -> bool:
        """End a sweep, and return whether a callback asks the fit to stop."""
        return self._end()

    def _end(self) -> bool:
        if self._pass is None:
            return False
        ended, self._pass = self._pass, None
        return bool(ended.call_on_fit_task_end(**self._given))

    def finish(self) -> None:
        """End the fit, and the pass that no solver has ended."""
        self._end()
        if self._root is not None:
            self._root.call_on_fit_task_end(**self._given)
