"""The truth that every method is compared with: a float64 solve, kept in an ignored folder.

Errors are of rank K. ``lost_energy`` is the share of the leading eigenvalues' sum that a subspace leaves out;
``kernel_error`` is the relative Frobenius distance of E E^T from the best kernel of rank K. Energies are taken with
float32 Fisher vectors: what is below UNSEEN may be their rounding.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import ours
from .cases import CASES, SIZES, Case
from .trained import CACHE

VERSION = 2
UNSEEN = 1e-6


@dataclass(frozen=True)
class Reference:
    """Leading eigenvalues of V V^T, (K,) descending, and the embedding (N, K), in float64."""

    eigenvalues: Tensor
    embedding: Tensor
    estimate: float = 0.0  # of its own lost energy

    def leading(self, n_components: int) -> Reference:
        return Reference(self.eigenvalues[:n_components], self.embedding[:, :n_components], self.estimate)

    def lost_energy(self, captured: float) -> float:
        return 1 - captured / float(self.eigenvalues.sum())

    def kernel_error(self, embedding: Tensor) -> float:
        """Through K x K products: no (N, N) kernel is made."""
        E, R = embedding.double().cpu(), self.embedding  # (N, K)
        squared = (E.T @ E).square().sum() + (R.T @ R).square().sum() - 2 * (E.T @ R).square().sum()
        return float(squared.clamp_min(0).sqrt() / (R.T @ R).norm())


def reference(case: Case, n_components: int) -> Reference:
    """Read the float64 solve of these rows, or make it; smaller ranks are its first columns."""
    most = largest_rank(case, n_components)
    path = CACHE / f"reference-v{VERSION}-{case.name}-{case.n_examples}-{most}-{digest(case)}.npz"
    if not path.exists():
        found = solve(case, most)
        CACHE.mkdir(exist_ok=True)
        partial = path.with_name(f"partial-{path.name}")
        np.savez(partial, **vars(found))
        partial.rename(path)
    with np.load(path) as stored:
        arrays = (torch.from_numpy(stored[name]) for name in ("eigenvalues", "embedding"))
        whole = Reference(*arrays, estimate=float(stored["estimate"]))
    return whole.leading(n_components)


def solve(case: Case, n_components: int) -> Reference:
    """Block Krylov in float64, eight orders below the leading energy by its own estimate."""
    options = {"solver": "krylov", "tol": 1e-8, "max_sweeps": 10, "dtype": "float64", "max_memory": 20 * 2**30}
    nfk = ours.fit(case, n_components, torch.device("cpu"), **options, **ours.without_cache())
    embedding = torch.from_numpy(np.array(nfk.transform(case.X)))
    return Reference(embedding.square().sum(0), embedding, nfk.error_estimate_)


def largest_rank(case: Case, n_components: int) -> int:
    """The largest rank that the tables show of these rows, so that they cost one solve."""
    ranks = [K for name, N, K in SIZES if (name, N) == (case.name, case.n_examples)]
    return max([n_components, *ranks])


def digest(case: Case) -> str:
    """Of the weights and the rows: a reference of others is not read."""
    state = hashlib.sha256()
    for value in case.model.state_dict().values():
        state.update(value.detach().cpu().numpy().tobytes())
    state.update(np.ascontiguousarray(case.X).tobytes())
    return state.hexdigest()[:12]


def captured_by_components(Z: Tensor, components: Tensor) -> float:
    """Energy in the span of components (K, P) with Z = V C^T, (N, K); their Gram matrix mends float32."""
    C, Z = components.double(), Z.double()
    return float(torch.linalg.solve(C @ C.T, Z.T @ Z).trace())


def captured_by_examples(Q: Tensor, product: Tensor) -> float:
    """Energy in the span of columns Q (N, K) of the examples' side, with product = V^T Q, (P, K)."""
    Q, product = Q.double(), product.double()
    return float(torch.linalg.solve(Q.T @ Q, product.T @ product).trace())


def make(name: str, n_examples: int, n_components: int) -> dict:
    """Make a reference in a process of its own: its memory is not another's."""
    found = reference(CASES[name](n_examples), n_components)
    return {"total": float(found.eigenvalues.sum())}
