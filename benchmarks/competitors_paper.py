"""The paper's algorithm by two hands: our ``solver="paper"`` and a plain torch loop of the same products.

Algorithms 4 to 6 with L iterations make (L + 1) (K + 10) columns of V W by JVPs, and as many of V^T Y by VJPs. Where
that takes long, complete columns of both over all rows are timed and scaled; the QRs, the pass of the statistics and
the final SVD are then left out, in the paper's favour.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from sknfk._torch import total_memory

from . import ours
from .competitors import Competitor, Outcome, left_out
from .measuring import fastest, timed
from .problem import Problem, arithmetic

N_ITERATIONS = 10  # L
N_OVERSAMPLES = 10
WHOLE_SECONDS = 120.0  # a run that takes longer is extrapolated
BATCH_SIZES = (32, 128, 512)
CHUNKS = (1, 2, 4, 8)  # columns at once; 1 is a plain loop
TUNING_ROWS = 256  # at least: one small batch alone tells little
TUNING_SECONDS = 180.0


class ColumnTimes(Competitor):
    """Times columns of V W and V^T Y, and scales them to the whole algorithm."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.batch_size, self.chunk = 1, 1
        self.products: list[float] = []  # seconds of all columns, from each measurement

    def columns_of_matmat(self, W: Tensor, n_rows: int | None = None) -> Tensor: ...

    def columns_of_rmatmat(self, Y: Tensor, n_rows: int | None = None) -> Tensor: ...

    @property
    def total_columns(self) -> int:
        """Of each of the two products."""
        return (N_ITERATIONS + 1) * (self.problem.n_components + N_OVERSAMPLES)

    def tune(self) -> None:
        """Choose the batch and the chunk together; both hands choose from the same."""
        sizes = sorted({min(size, self.problem.shape[0]) for size in BATCH_SIZES})
        most = total_memory(self.problem.device) // (4 * ours.activation_bytes(self.problem.case, self.problem.device))
        candidates = [(size, chunk) for chunk in CHUNKS for size in sizes if size * chunk <= max(most, sizes[0])]
        self.use(*fastest(self._per_row, candidates, TUNING_SECONDS))
        form = "loop" if self.chunk == 1 else "vmap"
        self.settings = {"batch_size": self.batch_size, "chunk": self.chunk, "form": form}

    def use(self, batch_size: int, chunk: int) -> None:
        """Take this batch size, and so many columns at once."""
        self.batch_size, self.chunk = batch_size, chunk

    def _per_row(self, candidate: tuple[int, int]) -> float:
        self.use(*candidate)
        try:
            return self.probe_seconds(min(self.problem.shape[0], max(self.batch_size, TUNING_ROWS)))
        except (RuntimeError, NotImplementedError):  # no batching rule: the loop is left
            if self.chunk == 1:
                raise
            return float("inf")

    def seconds_per_column(self, n_rows: int | None = None) -> float:
        """Of one JVP and one VJP of all rows, or of some."""
        N, P = self.problem.shape
        n, n_columns, device = n_rows or N, self.chunk, self.problem.device
        W, Y = torch.randn(P, n_columns, device=device), torch.randn(n, n_columns, device=device)
        with arithmetic(device):
            forward = timed(lambda: self.columns_of_matmat(W, n_rows), device)[0]
            backward = timed(lambda: self.columns_of_rmatmat(Y, n_rows), device)[0]
        return (forward + backward) / n_columns

    def product_seconds(self) -> float:
        """One more measurement of the products alone, scaled to all columns."""
        self.columns_timed += self.chunk
        self.products.append(self.seconds_per_column() * self.total_columns)
        return self.products[-1]

    def probe_seconds(self, n_rows: int) -> float:
        return self.seconds_per_column(n_rows) / n_rows

    def seconds(self) -> float:
        return self.product_seconds()

    def describe(self) -> dict:
        return {
            **super().describe(),
            "extrapolated": True,
            "columns_timed": self.columns_timed,
            "columns_in_all": self.total_columns,
            "rows_timed": self.problem.shape[0],
            "n_iterations": N_ITERATIONS,
        }


class PaperSolver(ColumnTimes):
    """``NFKTransformer(solver="paper", engine="jvp")``: a loop over columns, or vmapped over chunks of them."""

    name = "paper"

    def tune(self) -> None:
        self.operators = {}
        super().tune()
        self.settings["engine"] = "jvp"
        rough = self.probe_seconds(self.batch_size) * self.problem.shape[0] * self.total_columns
        self.is_whole = rough < WHOLE_SECONDS

    def use(self, batch_size: int, chunk: int) -> None:
        super().use(batch_size, chunk)
        if batch_size not in self.operators:
            self.operators[batch_size] = self._operator(batch_size)
        self.operator = self.operators[batch_size]
        self.operator.engine.columns_at_once = chunk

    def _operator(self, batch_size: int):
        """The library's own operator with engine="jvp", about the statistics that all are given."""
        case = self.problem.case
        few = case.head(min(case.n_examples, 16))
        options = {"solver": "exact", "engine": "jvp", "batch_size": batch_size, **ours.without_cache()}
        with ours.forward_mode():
            nfk = ours.fit(few, 1, self.problem.device, **options)
        nfk.mean_score_, nfk.scale_ = (a.cpu().numpy() for a in (self.problem.mean_score, self.problem.scale))
        return nfk.operator(case.X).torch

    def columns_of_matmat(self, W: Tensor, n_rows: int | None = None) -> Tensor:
        return (self.operator if n_rows is None else self.operator.slice(0, n_rows)).matmat(W)

    def columns_of_rmatmat(self, Y: Tensor, n_rows: int | None = None) -> Tensor:
        return (self.operator if n_rows is None else self.operator.slice(0, n_rows)).rmatmat(Y)

    def seconds(self) -> float:
        if not self.is_whole:
            return super().seconds()
        self.product_seconds()
        return timed(lambda: self._fit(engine="jvp", batch_size=self.batch_size), self.problem.device)[0]

    def _fit(self, **options):
        with ours.forward_mode():
            return ours.fit(
                self.problem.case,
                self.problem.n_components,
                self.problem.device,
                solver="paper",
                **options,
                **ours.without_cache(),
            )

    def outcome(self) -> Outcome:
        # The same iterations from the same start, by an engine that forms gradients: hours would not change it.
        nfk = self._fit(engine=self.problem.forming_engine)
        return Outcome(embedding=nfk.transform(self.problem.case.X), components=nfk.components_)

    def describe(self) -> dict:
        described = super().describe()
        if self.is_whole:
            described = {**Competitor.describe(self), "extrapolated": False, "n_iterations": N_ITERATIONS}
        return {**described, "error_by": f"the same solver and start, engine='{self.problem.forming_engine}'"}


class HandwrittenPaper(ColumnTimes):
    """Plain torch: for each batch a loop of JVPs or VJPs over columns, or vmapped over chunks of them."""

    name = "handwritten"

    def columns_of_matmat(self, W: Tensor, n_rows: int | None = None) -> Tensor:
        p = self.problem
        scaled = p.scale[:, None] * W  # (P, L)
        product = torch.cat([self._columns(jvp_of_batch(p, x), scaled) for x in p.X[:n_rows].split(self.batch_size)])
        return product - p.mean_score @ scaled

    def columns_of_rmatmat(self, Y: Tensor, n_rows: int | None = None) -> Tensor:
        p = self.problem
        total = torch.zeros(p.shape[1], Y.shape[1], device=p.device)
        for x, y in zip(p.X[:n_rows].split(self.batch_size), Y.split(self.batch_size), strict=True):
            total += self._columns(vjp_of_batch(p, x), y)
        return p.scale[:, None] * (total - torch.outer(p.mean_score, Y.sum(0)))

    def _columns(self, column: Callable[[Tensor], Tensor], block: Tensor) -> Tensor:
        if self.chunk == 1:
            return torch.stack([column(w.contiguous()) for w in block.unbind(1)], dim=1).detach()
        return torch.cat([vmap(column, 1, 1)(part) for part in block.split(self.chunk, dim=1)], dim=1).detach()

    def outcome(self) -> Outcome:
        raise left_out("its products are the paper solver's, and so is its error")


def jvp_of_batch(p: Problem, x: Tensor) -> Callable[[Tensor], Tensor]:
    """w (P,) -> J w, (B,)."""
    return lambda w: jvp(lambda values: p.log_density(values, x), (p.values,), (p.split(w),))[1]


def vjp_of_batch(p: Problem, x: Tensor) -> Callable[[Tensor], Tensor]:
    """y (B,) -> J^T y, (P,): the graph is made once for all columns."""
    pull_back = vjp(lambda values: p.log_density(values, x), p.values)[1]
    return lambda y: torch.cat([g.flatten() for g in pull_back(y)[0].values()])
