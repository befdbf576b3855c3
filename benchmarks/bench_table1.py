"""Table 1: a linear classifier on activations, on 128 and 256 components and on the whole Fisher vector.

GANs and VAEs of the zoo, and a spectral-norm GAN and a convolutional VAE on CIFAR-10 where they are trained. The same
weights and rows for each feature set, no augmentation. A row is one draw, four fifths of the base, as in ``families``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from .bench_families import N_POOLS, all_drawn, draws_of, measured, noise
from .features import Features, activations, embedded, products, random_signs, stored
from .own_pairs import OWN, is_due, pair_of
from .pairs import PAIRS, Pair

TAKES = ("cases", "done")
RANKS = (128, 256)
CASES = (*(f"{name}/{data}" for name in ("mlp_gan", "dcgan", "vae") for data in ("mnist", "fashion")), *OWN)
DRAWS = tuple(f"all/{pool}" for pool in range(N_POOLS))


def rows(
    device: str, smoke: bool, cases: tuple[str, ...] = (), done: frozenset[str] = frozenset()
) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        yield "noise/all/0", measured(noise(), "all/0")
        return
    for key in cases or CASES:
        pair = pair_of(key)
        if pair is not None:
            yield from draws_of(key, partial(table_features, pair, device), DRAWS, done)


def is_complete(rows: dict[str, dict]) -> bool:
    """Say whether every draw of every pair is there, but for models that are not trained."""
    return all_drawn(rows, {key: DRAWS for key in CASES if is_due(key, rows)})


def table_features(pair: Pair, device: str) -> Features:
    X, X_test = (pair.rows(split)[0] for split in ("train", "test"))
    nfk, features = embedded(pair, RANKS, device=device)
    base, test = (nfk.operator(rows).torch for rows in (X, X_test))
    # Those that ``families`` has made are of the same rows, weights and samples.
    known = (stored(pair) if pair.key in PAIRS else None) or products(base, test, random_signs(nfk.n_parameters_, 1))
    return replace(
        features,
        base={"activations": activations(pair, X), **features.base},
        test={"activations": activations(pair, X_test), **features.test},
        kernel_base=known.kernel_base,
        kernel_test=known.kernel_test,
        test_squared_norms=known.test_squared_norms,
        about={"family": pair.model.family, "activations": pair.model.activations_name, **features.about},
    )
