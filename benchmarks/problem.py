"""What every competitor is given: the model as a function, rows, and the statistics for free.

V = (J - 1 z^T) diag(d), the library's matrix of Fisher vectors, with our z and d: none of the competitors has a way
to estimate them, and the pass that this takes is on our side of the clock alone.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from sknfk._torch import exact_arithmetic

from .cases import Case, LogDensity
from .ours import forward_mode

# Formed gradients that a competitor may hold: more is not tried.
MAX_FORMED_BYTES = 14 * 2**30


@dataclass
class Problem:
    """Fisher vectors of a case's rows, by plain torch."""

    case: Case
    n_components: int
    device: torch.device
    mean_score: Tensor  # z, (P,)
    scale: Tensor  # d, (P,)
    forming_engine: str  # the engine that our own fit has chosen

    def __post_init__(self) -> None:
        model = copy.deepcopy(self.case.model).to(self.device).eval().requires_grad_(False)
        self.module = LogDensity(model, self.case.density)
        self.values = {name: parameter.detach() for name, parameter in self.module.named_parameters()}
        self.X = torch.from_numpy(self.case.X).to(self.device)
        self.mean_score = self.mean_score.to(self.device, torch.float32)
        self.scale = self.scale.to(self.device, torch.float32)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.X), len(self.scale)

    def log_density(self, values: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.module, values, (x,))

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Cut (P,) into tensors of the parameters' shapes."""
        parts = vector.split([value.numel() for value in self.values.values()])
        return {name: part.reshape(value.shape) for part, (name, value) in zip(parts, self.values.items(), strict=True)}

    def gradients(self, x: Tensor) -> Tensor:
        """Per-example gradients by vmap(grad), (B, P)."""
        of_one = grad(lambda values, row: self.log_density(values, row[None])[0])
        found = vmap(of_one, in_dims=(None, 0))(self.values, x)
        return torch.cat([found[name].reshape(len(x), -1) for name in self.values], dim=1).detach()

    def fisher_vectors(self, batch_size: int, n_rows: int | None = None) -> Tensor:
        """V itself, (N, P) in float32, formed batch by batch."""
        X = self.X[:n_rows]
        formed = torch.empty(len(X), self.shape[1], device=self.device)
        for start in range(0, len(X), batch_size):
            block = self.gradients(X[start : start + batch_size])
            torch.mul(block.sub_(self.mean_score), self.scale, out=formed[start : start + batch_size])
        return formed

    def refuse_if_too_large(self) -> None:
        size = 4 * self.shape[0] * self.shape[1]
        if size > MAX_FORMED_BYTES:
            raise Skipped(f"formed gradients take {size / 2**30:.1f} GiB, over {MAX_FORMED_BYTES / 2**30:.0f}")


class Skipped(Exception):
    """A competitor that cannot run here; the row says why."""


@contextlib.contextmanager
def arithmetic(device: torch.device) -> Iterator[None]:
    """Full float32, as on our side, and attention that has forward-mode derivatives."""
    with exact_arithmetic(device), forward_mode():
        yield
