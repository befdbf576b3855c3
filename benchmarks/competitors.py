"""What a competitor is: tuned, then timed in turns with ours, then compared with the reference."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from .problem import Problem, Skipped

Array = np.ndarray | Tensor


@dataclass(frozen=True)
class Outcome:
    """What a method found: the embedding (N, K), and the subspace on one of the two sides."""

    embedding: Array
    components: Array | None = None  # (K, P)
    left: Array | None = None  # (N, K)
    note: str = ""
    comparable: bool = True  # False where it factorises another matrix
    details: dict[str, Any] = field(default_factory=dict)


class Competitor(ABC):
    """One method on one problem."""

    name: str
    precision = "float32"
    outcome_needs_run = False

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.settings: dict[str, Any] = {}
        self.columns_timed = 0

    @abstractmethod
    def tune(self) -> None:
        """Choose batch and chunk on a few rows; not timed."""

    @abstractmethod
    def seconds(self) -> float:
        """Run once, and return the seconds that the whole takes; scaled where ``describe`` says so."""

    @abstractmethod
    def outcome(self) -> Outcome:
        """What it finds. Called after ``tune``, and after ``seconds`` where ``outcome_needs_run``."""

    def describe(self) -> dict[str, Any]:
        return {"settings": self.settings, "precision": self.precision, "extrapolated": False}


def left_out(reason: str) -> Skipped:
    return Skipped(reason)
