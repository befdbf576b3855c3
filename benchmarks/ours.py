"""Our side of every comparison: one place that says which options are timed."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from sklearn.exceptions import ConvergenceWarning

from sknfk import NFKTransformer

from .cases import Case

HAS_CACHE = "gradient_cache" in inspect.signature(NFKTransformer).parameters


def transformer(case: Case, n_components: int, device: torch.device, **options: Any) -> NFKTransformer:
    """NFKTransformer with its defaults, but for what the options say."""
    options = {"random_state": 0, **options}
    return NFKTransformer(case.model, n_components, density=case.density, device=str(device), **options)


def fit(case: Case, n_components: int, device: torch.device, **options: Any) -> NFKTransformer:
    with quiet():
        return transformer(case, n_components, device, **options).fit(case.X)


def cache_options() -> list[dict[str, Any]]:
    """The settings of the gradient cache to time; one empty setting where there is no such option."""
    return [{"gradient_cache": "auto"}, {"gradient_cache": None}] if HAS_CACHE else [{}]


def without_cache() -> dict[str, Any]:
    return {"gradient_cache": None} if HAS_CACHE else {}


def plan(nfk: NFKTransformer) -> dict[str, Any]:
    """What a fit chose and how it ended."""
    chosen = {name: getattr(nfk, f"{name}_") for name in ("solver", "engine", "batch_size", "n_sweeps")}
    for name in ("gradient_cache", "cache"):  # where the library says what it did
        if isinstance(getattr(nfk, f"{name}_", None), str | int | float | bool):
            chosen[name] = getattr(nfk, f"{name}_")
    estimate = float(nfk.error_estimate_)
    return {**chosen, "error_estimate": estimate if estimate == estimate else None, "tol": nfk.tol}


def precision(nfk: NFKTransformer, case: Case) -> dict[str, Any]:
    """Where a fit of the case keeps its gradients, and in which numbers it multiplies them."""
    with quiet():
        chosen = nfk.explain(case.X).plan
    products = str(chosen.products).removeprefix("torch.")
    return {"gradients_kept": chosen.cache, "precision": f"{products} products" if products != "float32" else products}


def activation_bytes(case: Case, device: torch.device) -> int:
    """What the backward pass of one example waits for."""
    with quiet():
        chosen = transformer(case, 1, device).explain(case.head(8).X).plan
    return chosen.memory["activations of a batch"] // (2 * chosen.batch_size)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Say nothing of a fit that stops at its sweeps: the row tells its error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@contextlib.contextmanager
def forward_mode() -> Iterator[None]:
    """Switch off the encoder layers' fused inference kernel, which has no forward-mode derivative."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
