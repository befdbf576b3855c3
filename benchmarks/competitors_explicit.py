"""Competitors that form every gradient: the Gram matrix of the paper's baseline, and TRAK's random projection."""

from __future__ import annotations

import torch
from sklearn.decomposition import TruncatedSVD
from torch import Tensor

from .competitors import Competitor, Outcome
from .measuring import fastest, timed
from .problem import arithmetic

BATCH_SIZES = (16, 64, 128, 256)
PROJECTED = 2048  # columns that TRAK projects to
PARAMETERS_AT_ONCE = 2**14


class Explicit(Competitor):
    """Forms V by vmap(grad), batch by batch, in memory."""

    outcome_needs_run = True

    def tune(self) -> None:
        self.problem.refuse_if_too_large()
        sizes = sorted({min(size, self.problem.shape[0]) for size in BATCH_SIZES})
        device = self.problem.device

        def per_row(size: int) -> float:
            return timed(lambda: self.problem.fisher_vectors(size, size), device)[0] / size

        with arithmetic(device):
            self.batch_size = fastest(per_row, sizes)
        self.settings = {"batch_size": self.batch_size}

    def seconds(self) -> float:
        return timed(self.run, self.problem.device)[0]

    def run(self) -> None: ...


class GramTruncatedSVD(Explicit):
    """V V^T, then scikit-learn's TruncatedSVD with 10 iterations: the paper's baseline."""

    name = "gram"

    def run(self) -> None:
        with arithmetic(self.problem.device):
            V = self.problem.fisher_vectors(self.batch_size)  # (N, P)
            self.gram = self.product(V).cpu().numpy()  # (N, N)
        self.svd = TruncatedSVD(self.problem.n_components, algorithm="randomized", n_iter=10, random_state=0)
        self.svd.fit(self.gram)

    def product(self, V: Tensor) -> Tensor:
        return V @ V.T

    def outcome(self) -> Outcome:
        U = torch.from_numpy(self.svd.components_.T.copy()).double()  # (N, K)
        eigenvalues = torch.from_numpy(self.svd.singular_values_.copy()).double()
        return Outcome(embedding=U * eigenvalues.sqrt(), left=U)


class GramTruncatedSVDInBfloat16(GramTruncatedSVD):
    """The same, with products of bfloat16 numbers by a few parameters at a time, summed in float32."""

    name = "gram_bfloat16"
    precision = "bfloat16 products, float32 sums"

    def product(self, V: Tensor) -> Tensor:
        total = torch.zeros(len(V), len(V), device=V.device)
        for part in V.split(PARAMETERS_AT_ONCE, dim=1):
            half = part.bfloat16()  # (N, at most 2^14)
            total += half @ half.T  # a CPU rounds this product to bfloat16; the parts' errors average out
        return total


class RandomProjection(Explicit):
    """V R for a Rademacher R of 2,048 columns, then TruncatedSVD: the idea of TRAK."""

    name = "projection"

    def run(self) -> None:
        with arithmetic(self.problem.device):
            V = self.problem.fisher_vectors(self.batch_size)  # (N, P)
            projected = project(V, PROJECTED).cpu().numpy()  # (N, 2048)
        self.svd = TruncatedSVD(self.problem.n_components, algorithm="randomized", random_state=0)
        self.embedding = self.svd.fit_transform(projected)

    def outcome(self) -> Outcome:
        E = torch.from_numpy(self.embedding.copy()).double()
        return Outcome(embedding=E, left=torch.linalg.qr(E)[0], details={"projected_to": PROJECTED})


def project(V: Tensor, n_columns: int) -> Tensor:
    """V R / sqrt(m), (N, m); R is drawn a few rows at a time, each once."""
    generator = torch.Generator(V.device).manual_seed(0)
    total = torch.zeros(len(V), n_columns, device=V.device)
    for part in V.split(PARAMETERS_AT_ONCE, dim=1):
        bits = torch.randint(0, 2, (part.shape[1], n_columns), generator=generator, device=V.device, dtype=torch.int8)
        total.addmm_(part, bits.float().mul_(2).sub_(1))
    return total.mul_(n_columns**-0.5)
