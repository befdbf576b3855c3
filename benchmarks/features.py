"""Every feature set of one pair of a model and a data set, computed once and kept in an ignored folder.

What needs no labels is fitted on the base, the same rows for every set; a probe sees the labels of some of them.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.utils import gen_batches
from torch import Tensor

from sknfk import NFKTransformer
from sknfk._torch import exact_arithmetic
from sknfk.fisher import FisherVectors

from . import ours
from .cases import DATA_ROOT
from .measuring import significant
from .pairs import Pair
from .trained import CACHE

VERSION = 3  # raise it when a feature set changes: stored ones of another version are not read
N_COMPONENTS = 128
RANKS = (16, 64, 128)
GATHERED = 256  # rows that are multiplied at once
N_CHECKED = 64  # rows whose embedding is made a second time, by ``transform``
# Of formed Fisher vectors, 5,000 of the flow; of each batch of the others there is a pass for each block.
GRAM_BYTES = int(os.environ.get("GRAM_GIB", "12")) * 2**30
KERNEL = "full Fisher vector"  # stands for its features: all that a linear probe sees of them


@dataclass(frozen=True)
class Features:
    """Feature sets of base and test rows by name, the labels and, where wanted, the Fisher kernel with the base."""

    base: dict[str, np.ndarray]  # (N, d)
    test: dict[str, np.ndarray]  # (M, d)
    y_base: np.ndarray
    y_test: np.ndarray
    about: dict[str, Any]
    kernel_base: np.ndarray | None = None  # (N, N)
    kernel_test: np.ndarray | None = None  # (M, N)
    test_squared_norms: np.ndarray | None = None  # (M,)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.base, *(() if self.kernel_base is None else (KERNEL,)))

    @property
    def on_task(self) -> bool:
        """Say whether base and test are the same rows."""
        return bool(self.about.get("on_task"))

    def tested(self, labelled: np.ndarray) -> np.ndarray:
        """Test rows whose label is not seen."""
        every = np.arange(len(self.y_test))
        return np.setdiff1d(every, labelled) if self.on_task else every

    def dimension(self, name: str) -> int:
        return int(self.about["n_parameters"]) if name == KERNEL else self.base[name].shape[1]


def features_of(pair: Pair) -> Features:
    """Read the feature sets of a pair, or make them."""
    known = stored(pair)
    if known is None:
        path, known = path_of(pair), compute(pair)
        partial = path.with_name(f"partial-{path.name}")
        np.savez(partial, stored=np.array(vars(known), dtype=object))
        partial.rename(path)
    return known


def stored(pair: Pair) -> Features | None:
    """Read the feature sets of a pair where an earlier run has made them."""
    if not path_of(pair).exists():
        return None
    with np.load(path_of(pair), allow_pickle=True) as kept:  # our own file
        return Features(**kept["stored"].item())


def path_of(pair: Pair) -> Path:
    return CACHE / f"features-v{VERSION}-{pair.key.replace('/', '-')}-{pair.n_base}-{weights_digest(pair)}.npz"


def fitted(pair: Pair) -> tuple[NFKTransformer, float]:
    """Fit a pair with its defaults, and return it with the seconds that it took; or read both."""
    path = path_of(pair).with_suffix(f".{'own' if pair.on_task else 'fit'}.joblib")
    if not path.exists():
        X = pair.rows("train")[0]
        started = time.perf_counter()
        nfk = transformer(pair).fit(X)
        seconds = time.perf_counter() - started
        CACHE.mkdir(exist_ok=True)
        joblib.dump((nfk, seconds), path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)
    return joblib.load(path)


def weights_digest(pair: Pair) -> str:
    """Of the file of published weights."""
    return hashlib.sha256(Path(DATA_ROOT, "data", "models", pair.model.weights).read_bytes()).hexdigest()[:12]


def compute(pair: Pair) -> Features:
    (X, pixels, y), (X_test, pixels_test, y_test) = pair.rows("train"), pair.rows("test")
    nfk, fit_seconds = fitted(pair)
    known, known_test = activations(pair, X), activations(pair, X_test)
    base, test = nfk.operator(X).torch, nfk.operator(X_test).torch
    signs, components = random_signs(nfk.n_parameters_), torch.from_numpy(np.array(nfk.components_.T))
    found = products(base, test, torch.cat([signs, components], 1))
    split = signs.shape[1]
    (projected, embedded), (projected_test, embedded_test) = (
        (rows[:, :split], rows[:, split:]) for rows in (found.projected_base, found.projected_test)
    )
    check_same(embedded_test[:N_CHECKED], nfk.transform(X_test[:N_CHECKED]))
    sets = {
        "NFK-128": (embedded, embedded_test),
        "activations": (known, known_test),
        "activations-PCA-128": reduced(known, known_test),
        "activations + NFK-128": side_by_side((known, known_test), (embedded, embedded_test)),
        "random projection-128": (projected, projected_test),
        "PCA-128 of pixels": reduced(pixels, pixels_test),
        "pixels": (pixels, pixels_test),
    }
    return Features(
        base={name: np.asarray(own[0], np.float32) for name, own in sets.items()},
        test={name: np.asarray(own[1], np.float32) for name, own in sets.items()},
        kernel_base=found.kernel_base,
        kernel_test=found.kernel_test,
        test_squared_norms=found.test_squared_norms,
        y_base=y,
        y_test=y_test,
        about=described(pair, nfk, fit_seconds, len(y_test)),
    )


def check_same(embedded: np.ndarray, transformed: np.ndarray) -> None:
    """Formed rows times the components, which saves two passes, must be what ``transform`` gives, to rounding."""
    error = np.abs(embedded - transformed).max() / np.abs(transformed).max()
    if not error < 1e-4:
        raise ArithmeticError(f"The embedding must be that of `transform` within 1e-4. Got {error:.2g}.")


class Products(NamedTuple):
    """What base and test rows give times each other, and times a few columns R."""

    kernel_base: np.ndarray  # (N, N)
    kernel_test: np.ndarray  # (M, N)
    projected_base: np.ndarray  # (N, L)
    projected_test: np.ndarray  # (M, L)
    test_squared_norms: np.ndarray  # (M,)


def products(base: FisherVectors, test: FisherVectors, R: Tensor) -> Products:
    """Multiply formed Fisher vectors in float32, since float64 takes several times as long.

    Each base row is formed once, and those beyond the first block once more; each test row once for each block.
    """
    N, M, L = base.shape[0], test.shape[0], R.shape[1]
    own, other, norms = torch.zeros(N, N), torch.zeros(M, N), torch.zeros(M, dtype=torch.float64)
    projected, projected_test = torch.zeros(N, L), torch.zeros(M, L)
    step = max(1, GRAM_BYTES // (4 * base.shape[1]))
    with exact_arithmetic(base.device):
        for start in range(0, N, step):
            stop = min(start + step, N)
            formed = base.slice(start, stop).rows()  # (step, P)
            projected[start:stop] = formed @ R
            for here in gen_batches(stop - start, GATHERED):  # half of it, since it is symmetric
                own[start:stop, start:stop][here, : here.stop] = formed[here] @ formed[: here.stop].T
            for below, rows in gathered(base.slice(stop, N), stop):
                own[below, start:stop] = rows @ formed.T
            for here, rows in gathered(test):
                other[here, start:stop] = rows @ formed.T
                if start == 0:
                    projected_test[here] = rows @ R
                    norms[here] = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square()
            del formed  # before the next is made
    own = own.tril() + own.tril(-1).T
    return Products(*(found.numpy() for found in (own, other, projected, projected_test, norms)))


def gathered(vectors: FisherVectors, first: int = 0) -> Iterator[tuple[slice, Tensor]]:
    """Yield formed Fisher vectors with their places, in some hundreds: few rows by many are not multiplied fast."""
    held: list[Tensor] = []
    for rows in vectors.row_blocks() if vectors.shape[0] else ():
        held.append(rows)
        n_rows = sum(map(len, held))
        if n_rows >= GATHERED:
            yield slice(first, first + n_rows), torch.cat(held)
            first, held = first + n_rows, []
    if held:
        yield slice(first, first + sum(map(len, held))), torch.cat(held)


def random_signs(n_rows: int, n_columns: int = N_COMPONENTS) -> Tensor:
    """A random projection to some columns, (n_rows, n_columns)."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(0, 2, (n_rows, n_columns), generator=generator, dtype=torch.int8)
    return (2 * signs.float() - 1) * n_columns**-0.5


def transformer(pair: Pair, **options: Any) -> NFKTransformer:
    defaults = {"n_components": N_COMPONENTS, "density": pair.model.density(), "random_state": 0}
    return NFKTransformer(**{"model": pair.model.build(), **defaults, **pair.model.options, **options})


def embedded(pair: Pair, n_columns: tuple[int, ...], **options: Any) -> tuple[NFKTransformer, Features]:
    """One fit, and its embedding's first columns as feature sets, ``NFK-64`` for 64 of them; no kernel."""
    (X, _, y), (X_test, _, y_test) = pair.rows("train"), pair.rows("test")
    with ours.quiet():
        nfk = transformer(pair, n_components=max(n_columns), **options).fit(X)
    E, E_test = nfk.transform(X), nfk.transform(X_test)
    shares = np.cumsum(nfk.explained_variance_ratio_)
    about = {
        "model": pair.model.name,
        "dataset": pair.dataset,
        "n_base": len(y),
        "n_test": len(y_test),
        "on_task": pair.on_task,
        "n_parameters": nfk.n_parameters_,
        "explained_variance": {str(k): significant(float(shares[k - 1])) for k in n_columns},
        "mean_shift": significant(nfk.mean_shift_),
        "dead_fraction": significant(nfk.dead_fraction_),
        **ours.plan(nfk),
    }
    sets = ({f"NFK-{k}": rows[:, :k] for k in n_columns} for rows in (E, E_test))
    return nfk, Features(*sets, y, y_test, about)


def described(pair: Pair, nfk: NFKTransformer, fit_seconds: float, n_test: int) -> dict[str, Any]:
    shares = np.cumsum(nfk.explained_variance_ratio_)
    return {
        "model": pair.model.name,
        "family": pair.model.family,
        "dataset": pair.dataset,
        "weights": pair.model.weights,
        "weights_sha256": weights_digest(pair),
        "n_base": pair.n_base,
        "n_test": n_test,
        "on_task": pair.on_task,
        "n_parameters": nfk.n_parameters_,
        "activations": pair.model.activations_name,
        "statistics": "model" if nfk.density_.sampling == "exact" else "data",
        "explained_variance": {str(rank): significant(float(shares[rank - 1])) for rank in RANKS},
        "mean_shift": significant(nfk.mean_shift_),
        "fit_seconds": significant(fit_seconds),
        **ours.plan(nfk),
    }


def activations(pair: Pair, X: np.ndarray, batch_size: int = 256) -> np.ndarray:
    model = pair.model.build()
    with torch.no_grad():
        parts = [pair.model.activations(model, x).flatten(1) for x in torch.from_numpy(X).split(batch_size)]
    return torch.cat(parts).numpy()


def reduced(base: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The leading principal components, or all where there are fewer columns."""
    pca = PCA(min(N_COMPONENTS, base.shape[1]), svd_solver="auto", random_state=0).fit(base)
    return pca.transform(base), pca.transform(test)


def side_by_side(*pairs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Join sets, each brought to a mean squared length of one on the base, so that none drowns the other."""
    scales = [np.square(base).sum(1).mean() ** -0.5 for base, _ in pairs]
    return tuple(np.hstack([own[part] * s for own, s in zip(pairs, scales, strict=True)]) for part in (0, 1))
