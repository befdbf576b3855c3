"""How far a result is from what it should be."""

from __future__ import annotations

import numpy as np


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative error in Frobenius norm, in float64."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert found.shape == expected.shape
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def linear_kernel(Z: np.ndarray) -> np.ndarray:
    """Inner products of the rows of Z, in float64."""
    Z = np.asarray(Z, dtype=np.float64)
    return Z @ Z.T
