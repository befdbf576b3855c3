"""Solvers on one dense matrix whose squared singular values fall as j^-1.3, a trained LeNet-5's decay."""

from __future__ import annotations

import statistics
import time
import warnings
from dataclasses import dataclass

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from sknfk.solvers import SOLVERS, MatrixOperator, SVDResult, truncated_svd

EXPONENT = 1.3
FULL = {"n_examples": 2000, "n_parameters": 6000, "n_components": 64, "n_repeats": 3}
SMOKE = {"n_examples": 120, "n_parameters": 200, "n_components": 8, "n_repeats": 1}


@dataclass(frozen=True)
class Problem:
    """V = U diag(s) W^T with its parts known."""

    matrix: Tensor  # (N, P), float32
    U: Tensor  # (N, N), float64
    eigenvalues: Tensor  # (N,), the squares of s


def run(device: str, smoke: bool) -> dict:
    sizes = SMOKE if smoke else FULL
    problem = make_problem(sizes["n_examples"], sizes["n_parameters"], torch.device(device))
    seconds: dict[str, list[float]] = {name: [] for name in SOLVERS}
    rows: dict[str, dict] = {}
    for seed in range(sizes["n_repeats"]):  # solvers take turns, so that a slow minute hits all of them
        for name in SOLVERS:
            operator = MatrixOperator(problem.matrix)
            elapsed, result = timed(operator, sizes["n_components"], name, seed)
            seconds[name].append(elapsed)
            if name not in rows:
                rows[name] = describe(result, operator.n_visits, problem)
    for name, row in rows.items():
        row["seconds_median"] = round(statistics.median(seconds[name]), 4)
        row["seconds"] = [round(value, 4) for value in seconds[name]]
    return {
        **sizes,
        "spectrum": f"squared singular values j^-{EXPONENT}",
        "dtype": "float32",
        "solvers": rows,
    }


def make_problem(n_examples: int, n_parameters: int, device: torch.device) -> Problem:
    generator = torch.Generator().manual_seed(1234)
    U = orthonormal(n_examples, n_examples, generator, device)
    W = orthonormal(n_parameters, n_examples, generator, device)
    eigenvalues = torch.arange(1, n_examples + 1, dtype=torch.float64, device=device) ** -EXPONENT
    matrix = (U * eigenvalues.sqrt()) @ W.T  # (N, P)
    return Problem(matrix.float(), U, eigenvalues)


def orthonormal(n_rows: int, n_columns: int, generator: torch.Generator, device: torch.device) -> Tensor:
    gaussian = torch.randn(n_rows, n_columns, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(gaussian.to(device))[0]


def timed(operator: MatrixOperator, n_components: int, solver: str, seed: int) -> tuple[float, SVDResult]:
    generator = torch.Generator().manual_seed(seed)
    synchronise(operator.device)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the row says whether it converged
        result = truncated_svd(operator, n_components, solver=solver, generator=generator)
    synchronise(operator.device)
    return time.perf_counter() - started, result


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(result: SVDResult, n_visits: int, problem: Problem) -> dict:
    """Return how far the first seed's result is from the truth, and what it cost in visits."""
    K = len(result.singular_values)
    embedding = problem.matrix.double() @ result.components.double().T  # (N, K)
    best = problem.eigenvalues[:K]
    true_kernel = (problem.U[:, :K] * best) @ problem.U[:, :K].T  # (N, N)
    kernel_error = torch.linalg.norm(embedding @ embedding.T - true_kernel) / torch.linalg.norm(true_kernel)
    return {
        "n_visits": n_visits,
        "n_sweeps": result.n_sweeps,
        "lost_energy": float(1 - embedding.square().sum() / best.sum()),
        "kernel_error": float(kernel_error),
        "error_estimate": result.error_estimate if result.error_estimate == result.error_estimate else None,
        "converged": result.converged,
    }
