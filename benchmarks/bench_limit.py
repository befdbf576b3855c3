"""How far a fit is from its limit, and what it costs in plain training epochs of the same model and data.

The limit of a fit is ``passes x plain forward-backward of the same rows + FLOPs of the products / matmul rate``:
every pass forms gradients and multiplies them twice by K + n_oversamples columns. The pass that estimates the
statistics is one of them: ``over_limit`` leaves it out of the passes (n_sweeps alone) but not out of the time,
``over_limit_with_statistics`` counts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from . import children, ours
from .cases import CASES, SIZES, Case
from .measuring import PlainPasses, interleaved, matmul_rates, product_flops, significant, summary, timed

TAKES = ("cases", "components", "examples", "repeats")
N_REPEATS = 3
SMOKE = (("tiny", 200, 4), ("tiny_tokens", 100, 3))
N_OVERSAMPLES = 10  # the library's default


def rows(
    device: str,
    smoke: bool,
    cases: tuple[str, ...] = (),
    components: tuple[int, ...] = (),
    examples: tuple[int, ...] = (),
    repeats: int = N_REPEATS,
) -> Iterator[tuple[str, dict]]:
    for name, n_examples, n_components in SMOKE if smoke else SIZES:
        wanted = ((cases, name), (components, n_components), (examples, n_examples))
        if any(chosen and value not in chosen for chosen, value in wanted):
            continue
        arguments = {"name": name, "n_examples": n_examples, "n_components": n_components, "device": device}
        arguments["repeats"] = 1 if smoke else repeats
        row = limit_row(**arguments) if smoke else children.call("benchmarks.bench_limit:limit_row", **arguments)
        yield f"{name}/{n_examples}/{n_components}", row


def limit_row(name: str, n_examples: int, n_components: int, device: str, repeats: int) -> dict[str, Any]:
    target = torch.device(device)
    case = CASES[name](n_examples)
    plain, training = PlainPasses(case, target), PlainPasses(case, target, training=True)
    fits, fit_methods, transform_methods = {}, {}, {}
    for options in ours.cache_options():
        label = str(options.get("gradient_cache", "none yet"))
        ours.fit(case.head(max(64, 2 * n_components)), n_components, target, **options)  # warm-up
        fit_methods[f"fit {label}"] = fit_method(case, n_components, target, options, fits, label)
        transform_methods[f"transform {label}"] = lambda label=label: timed(
            lambda: fits[label].transform(case.X), target
        )[0]
    methods = {**fit_methods, **transform_methods, "plain": plain.seconds, "training": training.seconds}
    seconds = interleaved(methods, repeats)
    rates = matmul_rates(case.n_parameters, n_components + N_OVERSAMPLES, target)
    plain_seconds, training_seconds = summary(seconds["plain"]), summary(seconds["training"])
    row: dict[str, Any] = {
        "case": name,
        "n_examples": n_examples,
        "n_components": n_components,
        "n_parameters": case.n_parameters,
        "seed": 0,
        "n_repeats": repeats,
        "precision": "float32",
        "plain_seconds": plain_seconds,
        "plain_batch_size": plain.batch_size,
        "training_seconds": training_seconds,
        "training_batch_size": training.batch_size,
        "matmul_rate": rates,
        "options": {},
    }
    for label, nfk in fits.items():
        row["options"][label] = against_limit(
            case,
            n_components,
            nfk,
            seconds[f"fit {label}"],
            seconds[f"transform {label}"],
            plain_seconds["median"],
            training_seconds["median"],
            rates["best"],
        )
    return row


def fit_method(case: Case, n_components: int, device: torch.device, options: dict, fits: dict, label: str):
    def method() -> float:
        elapsed, fits[label] = timed(lambda: ours.fit(case, n_components, device, **options), device)
        return elapsed

    return method


def against_limit(
    case: Case,
    n_components: int,
    nfk,
    fit: list[float],
    transform: list[float],
    plain: float,
    training: float,
    rate: float,
) -> dict[str, Any]:
    fit_seconds, transform_seconds = summary(fit), summary(transform)
    products = 2 * product_flops(case.n_examples, case.n_parameters, n_components + N_OVERSAMPLES) / rate
    sweeps = nfk.n_sweeps_
    # Statistics multiply too, by the block that the solver starts from.
    strict = sweeps * plain + (sweeps + 1) * products
    with_statistics = (sweeps + 1) * (plain + products)
    transform_limit = plain + product_flops(case.n_examples, case.n_parameters, n_components) / rate
    return {
        **ours.plan(nfk),
        "fit_seconds": fit_seconds,
        "transform_seconds": transform_seconds,
        "product_seconds_per_pass": significant(products),
        "over_limit": significant(fit_seconds["median"] / strict),
        "over_limit_with_statistics": significant(fit_seconds["median"] / with_statistics),
        "plain_epochs": significant(fit_seconds["median"] / plain),
        "training_epochs": significant(fit_seconds["median"] / training),
        "transform_over_limit": significant(transform_seconds["median"] / transform_limit),
    }
