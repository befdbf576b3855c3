"""Matrices with known singular values, and how far a result is from them."""

from __future__ import annotations

import torch
from torch import Tensor

from sknfk.solvers import SVDResult


def matrix_with_spectrum(
    singular_values: Tensor, n_rows: int, n_columns: int, seed: int, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Return U diag(s) V^T with random orthonormal U and V, of shape (n_rows, n_columns)."""
    generator = torch.Generator().manual_seed(1000 + seed)  # not the solver's: its start must be fresh
    rank = len(singular_values)
    U = torch.linalg.qr(torch.randn(n_rows, rank, generator=generator, dtype=torch.float64))[0]
    V = torch.linalg.qr(torch.randn(n_columns, rank, generator=generator, dtype=torch.float64))[0]
    return ((U * singular_values.double()) @ V.T).to(dtype)


def power_law(rank: int, exponent: float = 1.3) -> Tensor:
    """Return singular values whose squares decay as j^-exponent (1.3: a trained LeNet-5)."""
    return torch.arange(1, rank + 1, dtype=torch.float64) ** (-exponent / 2)


def spikes_on_floor(n_spikes: int, rank: int, floor: float = 0.1) -> Tensor:
    """Return a few large singular values above a flat floor."""
    spectrum = torch.full((rank,), floor, dtype=torch.float64)
    spectrum[:n_spikes] = torch.linspace(3.0, 1.0, n_spikes)
    return spectrum


def lost_energy(result: SVDResult, matrix: Tensor, singular_values: Tensor) -> float:
    """Return the share of the energy of the true leading K that the components lose."""
    components = result.components.double()
    best = singular_values[: len(components)].double().square().sum()
    return float(1 - (matrix.double() @ components.T).square().sum() / best)


def projector_distance(components: Tensor, matrix: Tensor) -> float:
    """Return the spectral norm between the projectors onto found and true leading rows."""
    K = len(components)
    true = torch.linalg.svd(matrix.double(), full_matrices=False)[2][:K]
    found = components.double()
    # The sine of the largest angle between two K-dimensional spans.
    return float(torch.linalg.matrix_norm(found - found @ true.T @ true, ord=2))
