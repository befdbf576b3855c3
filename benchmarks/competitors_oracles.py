"""Libraries that others wrote: curvlinops' Jacobian under scipy's svds, and nngeometry's Gram matrix."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, svds
from sklearn.decomposition import TruncatedSVD
from torch import Tensor, nn

from .competitors import Competitor, Outcome, left_out
from .measuring import fastest, timed
from .problem import Problem, Skipped, arithmetic

BATCH_SIZES = (32, 128, 512)
WHOLE_SECONDS = 120.0  # a run that takes longer is extrapolated
NNGEOMETRY_ROWS = 256
NNGEOMETRY_BATCHES = (32, 128)


def oracle(name: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Skipped(f"{package} is not installed ({error}); see requirements-oracles.txt") from error


class Column(nn.Module):
    """A log-density with one output column, as both libraries want it."""

    def __init__(self, log_density: nn.Module) -> None:
        super().__init__()
        self.log_density = log_density

    def forward(self, x: Tensor) -> Tensor:
        return self.log_density(x)[:, None]


class CurvlinopsSvds(Competitor):
    """curvlinops' JacobianLinearOperator, centred and whitened around it, under svds(solver="arpack")."""

    name = "curvlinops"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.library = oracle("curvlinops", "curvlinops-for-pytorch")
        self.module = Column(problem.module)
        self.products: dict[str, float] = {}

    def tune(self) -> None:
        N, P = self.problem.shape
        sizes = sorted({min(size, N) for size in BATCH_SIZES})
        w = torch.randn(P, 1, device=self.problem.device)

        def per_row(size: int) -> float:
            jacobian = self._jacobian(size, size)
            return timed(lambda: jacobian @ w, self.problem.device)[0] / size

        with arithmetic(self.problem.device):
            self.batch_size = fastest(per_row, sizes)
        self.settings = {"batch_size": self.batch_size, "solver": "arpack", "tol": 0}
        self.jacobian = self._jacobian(self.batch_size, N)
        self._count_products()
        rough = self._seconds_per_column(self.batch_size) / self.batch_size * N
        self.is_whole = self.n_columns * rough < WHOLE_SECONDS

    def _jacobian(self, batch_size: int, n_rows: int):
        X, device = self.problem.X[:n_rows], self.problem.device
        batches = [(x, torch.zeros(len(x), 1, device=device)) for x in X.split(batch_size)]
        parameters = list(self.module.parameters())
        return self.library.JacobianLinearOperator(
            self.module, parameters, batches, check_deterministic=False, num_data=n_rows
        )

    def _count_products(self) -> None:
        """Run svds once on formed Fisher vectors: how many products it asks for, and what it finds."""
        self.problem.refuse_if_too_large()
        with arithmetic(self.problem.device):
            V = self.problem.fisher_vectors(64)
        counted = Counted(lambda w: V @ w, lambda y: V.T @ y, self.problem)
        self.found = counted.svds(self.problem.n_components)
        self.n_columns = counted.n_columns

    def _seconds_per_column(self, n_rows: int | None = None) -> float:
        """Mean of one product with V and one with V^T."""
        N, P = self.problem.shape
        jacobian = self.jacobian if n_rows is None else self._jacobian(self.batch_size, n_rows)
        w = torch.randn(P, 1, device=self.problem.device)
        y = torch.randn(n_rows or N, 1, device=self.problem.device)
        with arithmetic(self.problem.device):
            forward = timed(lambda: jacobian @ w, self.problem.device)[0]
            backward = timed(lambda: jacobian.adjoint() @ y, self.problem.device)[0]
        return (forward + backward) / 2

    def seconds(self) -> float:
        if not self.is_whole:
            self.columns_timed += 1
            return self._seconds_per_column() * self.n_columns
        return timed(self._run, self.problem.device)[0]

    def _run(self) -> None:
        p, adjoint = self.problem, self.jacobian.adjoint()
        z, d = p.mean_score[:, None], p.scale[:, None]  # (P, 1)

        def matmat(W: Tensor) -> Tensor:
            return (self.jacobian @ (d * W)).detach() - z.T @ (d * W)

        def rmatmat(Y: Tensor) -> Tensor:
            return d * ((adjoint @ Y).detach() - z @ Y.sum(0, keepdim=True))

        with arithmetic(p.device):
            self.found = Counted(matmat, rmatmat, p).svds(p.n_components)

    def outcome(self) -> Outcome:
        U, S, _ = self.found
        return Outcome(embedding=U * S, left=U, details={"columns_of_products": self.n_columns})

    def describe(self) -> dict:
        described = {**super().describe(), "columns_in_all": self.n_columns, "extrapolated": not self.is_whole}
        if not self.is_whole:
            rows = {"columns_timed": 2 * self.columns_timed, "rows_timed": self.problem.shape[0]}
            described |= {**rows, "error_by": "the same svds on formed Fisher vectors"}
        return described


class Counted:
    """A scipy face on two products, which counts the columns that go through it."""

    def __init__(self, matmat, rmatmat, problem: Problem) -> None:
        self.n_columns = 0
        self.products = (matmat, rmatmat)
        self.problem = problem
        face = {
            name: self._counting(product) for name, product in zip(("matmat", "rmatmat"), self.products, strict=True)
        }
        self.operator = LinearOperator(
            problem.shape,
            matvec=lambda w: face["matmat"](w.reshape(-1, 1)).ravel(),
            rmatvec=lambda y: face["rmatmat"](y.reshape(-1, 1)).ravel(),
            matmat=face["matmat"],
            rmatmat=face["rmatmat"],
            dtype=np.float32,
        )

    def _counting(self, product):
        def counting(block: np.ndarray) -> np.ndarray:
            self.n_columns += block.shape[1]
            tensor = torch.from_numpy(np.array(block, dtype=np.float32, order="C")).to(self.problem.device)
            return product(tensor).cpu().numpy()

        return counting

    def svds(self, n_components: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Leading singular triplets, descending; the start is seeded."""
        start = np.random.default_rng(0).standard_normal(min(self.operator.shape))
        U, S, Vt = svds(self.operator, k=n_components, solver="arpack", v0=start)
        order = np.argsort(S)[::-1]
        return U[:, order].copy(), S[order].copy(), Vt[order].copy()


def unserved(error: Exception) -> Skipped:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return Skipped(f"nngeometry cannot serve this model: {first[:120]}")


class NNGeometryGram(Competitor):
    """nngeometry's Gram matrix of a few rows, and TruncatedSVD, scaled by the square of the number of rows.

    It centres but cannot whiten: it factorises another matrix, and its error is not compared.
    """

    name = "nngeometry"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        backend = oracle("nngeometry.backend", "nngeometry")
        self.objects = oracle("nngeometry.object", "nngeometry")
        self.n_rows = min(NNGEOMETRY_ROWS, problem.shape[0])
        model = problem.module.model.requires_grad_(True)
        self.column = lambda x: problem.module(x)[:, None]
        try:
            self.jacobian = backend.TorchHooksJacobianBackend(model, function=self.column, centering=True)
        except Exception as error:  # the library raises nothing more special
            raise unserved(error) from error

    def tune(self) -> None:
        sizes = sorted({min(size, self.n_rows) for size in NNGEOMETRY_BATCHES})
        try:
            self.batch_size = fastest(lambda size: timed(lambda: self._gram(size), self.problem.device)[0], sizes)
            self._check()
        except Exception as error:
            raise unserved(error) from error
        self.settings = {"batch_size": self.batch_size}

    def _check(self) -> None:
        """Its hooks miss layers that a model calls by their weights: such a kernel is none to compare with."""
        with arithmetic(self.problem.device):
            J = self.problem.gradients(self.problem.X[: self.n_rows]).double()  # (n, P)
        J -= J.mean(0)
        expected = (J @ J.T).cpu().numpy()
        error = np.linalg.norm(self._gram(self.batch_size) - expected) / np.linalg.norm(expected)
        if not error < 1e-3:
            raise ValueError(f"its kernel differs from that of the gradients, by {error:.1e} of its norm")

    def _gram(self, batch_size: int) -> np.ndarray:
        examples = torch.utils.data.TensorDataset(self.problem.X[: self.n_rows])
        loader = torch.utils.data.DataLoader(examples, batch_size=batch_size)
        return self.objects.FMatDense(self.jacobian, examples=loader).to_torch()[0, :, 0, :].detach().cpu().numpy()

    def seconds(self) -> float:
        K = min(self.problem.n_components, self.n_rows - 1)

        def run() -> None:
            TruncatedSVD(K, algorithm="randomized", n_iter=10, random_state=0).fit(self._gram(self.batch_size))

        return timed(run, self.problem.device)[0] * (self.problem.shape[0] / self.n_rows) ** 2

    def outcome(self) -> Outcome:
        raise left_out("it factorises the centred, unwhitened kernel of a few rows: another matrix")

    def describe(self) -> dict:
        is_scaled = self.n_rows < self.problem.shape[0]
        return {**super().describe(), "extrapolated": is_scaled, "rows_timed": self.n_rows, "scaled_by": "rows squared"}
