"""Neighbours, distances between sets, and influence, as Fisher vectors see them.

``map/...``: mean average precision of neighbours of the same class, all angles. ``distance/...``: sets of images as a
GAN sees them, with its generator's statistics. ``influence/...``: closed form against fitting anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import label_ranking_average_precision_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize

from sknfk import NFKernel
from sknfk.inspection import logistic_influence, ridge_influence

from .features import activations, reduced, transformer
from .measuring import significant
from .pairs import ON_TASK, TRAINED, Pair, grey_images

TAKES = ("cases", "done")
RETRIEVED = (
    ("mlp_gan", "mnist"),
    ("dcgan", "mnist"),
    ("vae", "mnist"),
    ("energy", "mnist"),
    ("lenet5", "mnist"),
    ("lenet5", "usps"),
    ("fashion_mlp", "mnist"),
    ("resnet20", "cifar10"),
)
INFLUENCED = (("mlp_gan", "mnist"), ("vae", "mnist"), ("lenet5", "usps"))
N_ROWS, N_QUERIES = 2_500, 500  # the rest is searched
N_SET = 500
N_PROBED, N_TESTED, N_REMOVALS, N_REMOVED = 500, 20, 50, 50
N_LEFT_OUT = 50
ALPHA = 1e-2  # of the mean squared length of a Fisher vector


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        yield from smoke_rows()
        return
    for name, dataset in RETRIEVED:
        if wanted(f"map/{name}/{dataset}", cases, done):
            yield f"map/{name}/{dataset}", retrieved(pair_of(name, dataset))
    if wanted("distance/mlp_gan", cases, done):
        yield "distance/mlp_gan", distances()
    for name, dataset in INFLUENCED:
        if wanted(f"influence/{name}/{dataset}", cases, done):
            yield f"influence/{name}/{dataset}", influenced(pair_of(name, dataset))


def smoke_rows() -> Iterator[tuple[str, dict[str, Any]]]:
    rng = np.random.default_rng(0)
    Z, y = rng.normal(size=(60, 5)), np.arange(60) % 3
    yield "map/noise", {"sets": {"noise": precision(cosine_similarity(Z[:9], Z[9:]), y[:9], y[9:])}}
    sets = {"noise": Z, "others": rng.normal(size=(60, 4))}
    yield (
        "influence/noise",
        {
            "ridge_error": ridge_error(Z @ Z.T, Z[:4] @ Z.T, np.eye(3)[y], 5),
            "spearman": agreements(
                {name: (rows[:40], rows[40:44]) for name, rows in sets.items()}, y[:40], y[40:44], 3, 5
            ),
        },
    )


def wanted(key: str, cases: tuple[str, ...], done: frozenset[str]) -> bool:
    """Rows that are asked for by name are measured again."""
    return key in cases if cases else key not in done


def pair_of(name: str, dataset: str) -> Pair:
    return Pair(TRAINED[name], dataset, n_test=N_ROWS, on_task=(name, dataset) in ON_TASK)


def fisher_kernel(pair: Pair, **options: Any) -> NFKernel:
    settings = {**pair.model.options, "random_state": 0, **options}
    return NFKernel(pair.model.build(), density=pair.model.density(), **settings)


# ------------------------------------------------------------------ neighbours


def retrieved(pair: Pair) -> dict[str, Any]:
    """Test rows that no model was trained on: the first ask, the rest are searched."""
    X, pixels, y = pair.rows("test")
    n_queries = min(N_QUERIES, len(X) // 4)
    asked, searched = slice(0, n_queries), slice(n_queries, None)
    kernel = fisher_kernel(pair, normalize="l2").fit(X[searched])
    nfk = transformer(pair, normalize="l2").fit(X[searched])
    known = activations(pair, X)
    similarities = {
        "NFK, whole": kernel.transform(X[asked]),
        "NFK-128": nfk.transform(X[asked]) @ nfk.transform(X[searched]).T,
        "activations": cosine_similarity(known[asked], known[searched]),
        "pixels": cosine_similarity(pixels[asked], pixels[searched]),
    }
    return {
        "n_queries": n_queries,
        "n_searched": len(X) - n_queries,
        "activations": pair.model.activations_name,
        "sets": {name: precision(s, y[asked], y[searched]) for name, s in similarities.items()},
    }


def precision(similarity: np.ndarray, y: np.ndarray, y_searched: np.ndarray) -> dict[str, float]:
    """Mean average precision with its standard error over the queries, and the precision of the first ten.

    With the rows that are searched as labels, the ranking precision of one query is its average precision.
    """
    relevant = y[:, None] == y_searched
    by_query = [
        label_ranking_average_precision_score(own[None], scores[None])
        for own, scores in zip(relevant, similarity, strict=True)
    ]
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :10]
    return {
        "map": significant(float(np.mean(by_query))),
        "standard_error": significant(float(np.std(by_query, ddof=1) / len(by_query) ** 0.5)),
        "of_ten": significant(float(np.take_along_axis(relevant, nearest, 1).mean())),
    }


# ------------------------------------------------------------------ sets


def distances() -> dict[str, Any]:
    pair = pair_of("mlp_gan", "mnist")
    images, labels = grey_images("mnist", "test")
    sets = {
        "MNIST test images": images[:N_SET],
        "other MNIST test images": images[N_SET : 2 * N_SET],
        "MNIST training images": grey_images("mnist", "train")[0][:N_SET],
        "USPS": grey_images("usps", "test")[0][:N_SET],
        "upside-down MNIST": images[:N_SET, ::-1, ::-1].copy(),
        "Fashion-MNIST": grey_images("fashion", "test")[0][:N_SET],
        "uniform noise": np.random.default_rng(0).random((N_SET, 28, 28), np.float32),
    }
    X = {name: pair.model.read(torch.from_numpy(own)).numpy() for name, own in sets.items()}
    kernel = fisher_kernel(pair, statistics="model").fit(X["MNIST test images"])
    fresh = torch.Generator().manual_seed(1_000)
    X["the generator's images"] = kernel.density_.sample(kernel.module_, N_SET, fresh).numpy()
    reference = X["MNIST test images"]
    apart = kernel.fisher_distance(reference)
    same = labels[:N_SET, None] == labels[:N_SET]
    others = ~np.eye(N_SET, dtype=bool)
    return {
        "n_rows": N_SET,
        "n_reference": kernel.n_reference,
        "similarity": {
            name: {
                "to_the_generator": significant(kernel.fisher_similarity(own)),
                "to_mnist": significant(kernel.fisher_similarity(own, reference)),
            }
            for name, own in X.items()
        },
        "mean_distance": {
            "same class": significant(float(apart[same & others].mean())),
            "other class": significant(float(apart[~same].mean())),
        },
    }


# ------------------------------------------------------------------ influence


def influenced(pair: Pair) -> dict[str, Any]:
    X, _, y = pair.rows("test")
    train, test = slice(0, N_PROBED), slice(N_PROBED, None)
    nfk, known = transformer(pair).fit(X[train]), activations(pair, X)
    sets = {"NFK-128": (nfk.transform(X[train]), nfk.transform(X[test])), "activations": (known[train], known[test])}
    if known.shape[1] > nfk.n_components_:
        sets["activations"] = reduced(*sets["activations"])
    sets = {name: tuple(normalize(rows.astype(np.float64)) for rows in own) for name, own in sets.items()}
    tested = np.random.default_rng(0).choice(len(X) - N_PROBED, N_TESTED, replace=False)
    kernel = fisher_kernel(pair, dtype="float64").fit(X[train])
    K, K_test = kernel(X[train]), kernel(X[test][tested], X[train])
    return {
        "n_probed": N_PROBED,
        "n_removals": N_REMOVALS,
        "n_removed": N_REMOVED,
        "ridge_error": ridge_error(K, K_test, np.eye(10)[y[train]] - 0.1, N_LEFT_OUT),
        "spearman": agreements(
            {name: (own[0], own[1][tested]) for name, own in sets.items()},
            y[train],
            y[test][tested],
            N_REMOVALS,
            N_REMOVED,
        ),
    }


def ridge_error(K: np.ndarray, K_test: np.ndarray, Y: np.ndarray, n_left_out: int) -> float:
    """Largest difference of predictions without a row, in closed form and fitted anew, over their largest value."""
    alpha = ALPHA * float(np.trace(K)) / len(K)
    found = ridge_influence(K, Y, K_test, alpha=alpha)
    probe = KernelRidge(alpha=alpha, kernel="precomputed")
    before = probe.fit(K, Y).predict(K_test)
    errors = []
    for i in range(n_left_out):
        kept = np.delete(np.arange(len(K)), i)
        anew = probe.fit(K[np.ix_(kept, kept)], Y[kept]).predict(K_test[:, kept])
        errors.append(np.abs(before + found[:, i] - anew).max())
    return significant(float(max(errors) / np.abs(before).max()))


def agreements(
    sets: dict[str, tuple[np.ndarray, np.ndarray]], y: np.ndarray, y_test: np.ndarray, n_removals: int, n_removed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Spearman correlation of predicted and actual margin changes over removals: mean over the test rows.

    By the features that the probe sees, then by those that its changes are predicted from.
    """
    rng = np.random.default_rng(0)
    removals = [rng.choice(len(y), n_removed, replace=False) for _ in range(n_removals)]
    probes = {name: logistic().fit(rows, y) for name, (rows, _) in sets.items()}
    influence = {
        name: logistic_influence(probes[name], rows, y, rows_test, y_test) for name, (rows, rows_test) in sets.items()
    }
    influence["random"] = rng.normal(size=(len(y_test), len(y)))
    predicted = {name: np.stack([own[:, out].sum(1) for out in removals]) for name, own in influence.items()}
    found = {}
    for truth, (rows, rows_test) in sets.items():
        before = margins(probes[truth], rows_test, y_test)
        actual = np.stack([margins(anew(rows, y, out), rows_test, y_test) - before for out in removals])
        found[truth] = {name: correlation(own, actual) for name, own in predicted.items()}
    return found


def logistic() -> LogisticRegression:
    return LogisticRegression(C=10, tol=1e-8, max_iter=10_000)


def anew(rows: np.ndarray, y: np.ndarray, out: np.ndarray) -> LogisticRegression:
    return logistic().fit(np.delete(rows, out, axis=0), np.delete(y, out))


def margins(probe: LogisticRegression, rows: np.ndarray, y: np.ndarray) -> np.ndarray:
    """log p_y / (1 - p_y), (M,)."""
    p = probe.predict_proba(rows)
    own = np.searchsorted(probe.classes_, y)[:, None]
    others = np.where(np.arange(p.shape[1]) == own, 0, p)
    return np.log(np.take_along_axis(p, own, 1)[:, 0]) - np.log(others.sum(1))


def correlation(predicted: np.ndarray, actual: np.ndarray) -> dict[str, float]:
    """Over removals (rows), for each test row (column)."""
    values = [spearmanr(a, b).statistic for a, b in zip(predicted.T, actual.T, strict=True)]
    return {
        "mean": significant(float(np.mean(values))),
        "standard_error": significant(float(np.std(values, ddof=1) / len(values) ** 0.5)),
    }
