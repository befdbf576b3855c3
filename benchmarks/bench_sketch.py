"""Sketches against the exact decomposition: singular values, kernels of two seeds, a probe, time over plain passes.

The truth is the float64 Gram matrix of the same float32 Fisher vectors. Targets, at the default width: the 16 leading
singular values within 5 % ("sketch") and 0.5 % ("sketch-refined"), a CKA of at least 0.99 between two seeds' kernels, a
probe within a point of the exact embedding's, and at most 2 plain forward and backward passes of time for each sweep.
The last row is a transformer of 100 million random parameters in a process of its own: its peak memory is to stay below
8 GB.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from sknfk import NFKTransformer
from sknfk.fisher import FisherVectors
from sknfk.solvers import SVDResult, truncated_svd

from . import children, ours
from .cases import CASES, Case, zoo
from .measuring import PlainPasses, interleaved, significant, summary, timed

TAKES = ("cases",)
ROOT = Path(__file__).resolve().parent.parent
FULL = (("lenet5", 2_000, 64), ("resnet20", 1_024, 64))
SMOKE = (("tiny", 150, 4),)
SOLVERS = ("sketch", "sketch-refined")
SEEDS, N_LEADING, N_REPEATS, N_TIMED = (0, 1), 16, 5, 512
# Tokens, width, layers, heads, length: 100,477,442 parameters.
SIZES = {"full": (20_000, 768, 12, 12, 128), "smoke": (50, 16, 2, 2, 8)}
N_SEQUENCES, N_COMPONENTS = 256, 64
MAX_MEMORY = 7 * 10**9


def rows(device: str, smoke: bool, cases: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, N, K in SMOKE if smoke else FULL:
        if cases and name not in cases:
            continue
        arguments = {"name": name, "n_examples": N, "n_components": K, "device": device}
        row = compared(**arguments) if smoke else children.call("benchmarks.bench_sketch:compared", **arguments)
        yield f"{name}/{N}/{K}", row
    if not cases or "large" in cases:
        yield "large", in_a_process(4 if smoke else N_SEQUENCES, "smoke" if smoke else "full")


def compared(name: str, n_examples: int, n_components: int, device: str) -> dict[str, Any]:
    case, target = CASES[name](n_examples), torch.device(device)
    vectors = ours.fit(case, 1, target, solver="krylov", max_sweeps=1, tol=0.9).operator(case.X).torch
    eigenvalues, U = torch.linalg.eigh(vectors.gram().cpu())
    eigenvalues, U = eigenvalues.flip(0)[:n_components], U.flip(1)[:, :n_components]
    exact = U * eigenvalues.clamp_min(0).sqrt()  # (N, K)
    y = labels_of(name, n_examples)
    row = {"probe_of_the_exact": accuracy(exact, y), "n_parameters": vectors.shape[1]}
    for solver in SOLVERS:
        row[solver] = judged(vectors, solver, eigenvalues, exact, y)
    return {**row, "time_over_plain": times(case, vectors, n_components, target)}


def judged(vectors: FisherVectors, solver: str, eigenvalues: Tensor, exact: Tensor, y: np.ndarray) -> dict[str, Any]:
    found = [solve(vectors, solver, len(eigenvalues), seed) for seed in SEEDS]
    embeddings = [embedding(vectors, result).double().cpu() for result in found]
    leading = eigenvalues[:N_LEADING].sqrt()
    errors = [float((r.singular_values[:N_LEADING].cpu() / leading - 1).abs().max()) for r in found]
    return {
        "width": None if found[0].sketch is None else found[0].sketch.width,
        "largest_error_of_leading": [significant(error, 3) for error in errors],
        "cka_of_two_seeds": significant(cka(*embeddings), 5),
        "cka_with_the_exact": significant(cka(embeddings[0], exact), 5),
        "probe": [accuracy(Z, y) for Z in embeddings],
    }


def solve(vectors: FisherVectors, solver: str, n_components: int, seed: int) -> SVDResult:
    generator = torch.Generator().manual_seed(seed)
    return truncated_svd(vectors, n_components, solver=solver, generator=generator)


def embedding(vectors: FisherVectors, found: SVDResult) -> Tensor:
    R = found.components.T
    return vectors.matmat(R) if found.sketch is None else vectors.sketch(found.sketch, R)


def cka(A: Tensor, B: Tensor) -> float:
    """Centred kernel alignment (Kornblith et al., 2019) of the linear kernels of two embeddings."""
    A, B = A - A.mean(0), B - B.mean(0)
    return float((A.T @ B).square().sum() / ((A.T @ A).norm() * (B.T @ B).norm()))


def labels_of(name: str, n_examples: int) -> np.ndarray:
    if name == "tiny":
        return np.arange(n_examples) % 2
    load = zoo("datasets").mnist if name == "lenet5" else zoo("datasets").cifar10
    return np.asarray(load("train")[1][:n_examples])


def accuracy(Z: Tensor, y: np.ndarray) -> float:
    """Of a logistic regression on the first half of the rows, on the second."""
    half, scaled = len(y) // 2, (Z / Z.square().mean().sqrt()).numpy()
    return float(LogisticRegression(max_iter=2000).fit(scaled[:half], y[:half]).score(scaled[half:], y[half:]))


def times(case: Case, vectors: FisherVectors, n_components: int, device: torch.device) -> dict[str, Any]:
    """Ratios of interleaved runs on some rows: one pass that sketches, and whole solves by their sweeps."""
    part = vectors.slice(0, min(N_TIMED, case.n_examples))
    plain, signs = PlainPasses(case, device), solve(part, "sketch", n_components, 0).sketch
    sweeps = {"sketch": 1, "sketch-refined": 3}
    methods = {"plain": lambda: plain.seconds(n_rows=part.shape[0])}
    if signs is not None:  # it is narrower than the model
        methods["pass"] = lambda: timed(lambda: part.sketch(signs), device)[0]
    for name, n in sweeps.items():
        methods[f"{name}, by sweep"] = lambda name=name, n=n: (
            timed(lambda: solve(part, name, n_components, 0), device)[0] / n
        )
    seconds = interleaved(methods, N_REPEATS)
    unit = statistics.median(seconds.pop("plain"))
    return {name: summary(value / unit for value in values) for name, values in seconds.items()}


class Transformer(nn.Module):
    """Tokens (B, S) -> logits (B, 2), of random weights."""

    def __init__(self, n_tokens: int, width: int, n_layers: int, n_heads: int, length: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(n_tokens, width)
        self.position = nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(
            width, n_heads, 4 * width, activation="gelu", batch_first=True, norm_first=True, dropout=0.0
        )
        self.encoder = nn.TransformerEncoder(layer, n_layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.tokens(x) + self.position.weight).mean(1))


def in_a_process(n_sequences: int, size: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.bench_sketch", str(n_sequences), size]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def large(n_sequences: int, size: str) -> dict[str, Any]:
    """Fit and transform sequences of a large random transformer; peak memory is the whole process's."""
    torch.manual_seed(0)
    model = Transformer(*SIZES[size]).eval()
    n_tokens, length = SIZES[size][0], SIZES[size][-1]
    X = np.random.default_rng(0).integers(0, n_tokens, (n_sequences, length))
    nfk = NFKTransformer(model, min(N_COMPONENTS, n_sequences), solver="sketch", max_memory=MAX_MEMORY, random_state=0)
    started = time.perf_counter()
    Z = nfk.fit(X).transform(X)
    return {
        "n_parameters": nfk.n_parameters_,
        "n_examples": n_sequences,
        "n_components": nfk.n_components_,
        "engine": nfk.engine_,
        "batch_size": nfk.batch_size_,
        "is_finite": bool(np.isfinite(Z).all()) and float(np.square(Z).sum()) > 0,
        "seconds": significant(time.perf_counter() - started),
        "torch_threads": torch.get_num_threads(),
        "peak_gb": significant(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9),
    }


if __name__ == "__main__":
    print(json.dumps(large(int(sys.argv[1]), sys.argv[2])))
