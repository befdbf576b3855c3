"""A GPU: ResNet-20 and DCGAN over rows and ranks, beside plain passes with TF32 on and off.

The library holds its products in full float32 (``exact_arithmetic``) and has no option for TF32: fits are with TF32
off. Plain passes are timed both ways, so that a fit can be seen against either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from . import children, ours
from .cases import CASES
from .measuring import PlainPasses, interleaved, matmul_rates, product_flops, significant, summary, timed
from .memory import peak_of

TAKES = ("cases", "components", "examples", "repeats")
N_REPEATS = 3
FULL = (
    ("resnet20", [2**i for i in range(10, 16)], (20, 32, 128, 256)),
    ("dcgan", [2**i for i in range(10, 17)], (20, 32, 128, 256)),
)
SMOKE = (("tiny", [64], (3,)),)


def rows(
    device: str,
    smoke: bool,
    cases: tuple[str, ...] = (),
    components: tuple[int, ...] = (),
    examples: tuple[int, ...] = (),
    repeats: int = N_REPEATS,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Without a GPU only the smoke run goes on."""
    if not smoke and torch.device(device).type != "cuda":
        return
    for name, sizes, ranks in SMOKE if smoke else FULL:
        for N in sizes:
            for K in ranks:
                wanted = ((cases, name), (components, K), (examples, N))
                if any(chosen and value not in chosen for chosen, value in wanted):
                    continue
                arguments = {"name": name, "n_examples": N, "n_components": K, "device": device}
                arguments["repeats"] = 1 if smoke else repeats
                function = "benchmarks.bench_cuda:one_fit"
                yield f"{name}/{N}/{K}", one_fit(**arguments) if smoke else children.call(function, **arguments)


def one_fit(name: str, n_examples: int, n_components: int, device: str, repeats: int) -> dict[str, Any]:
    target = torch.device(device)
    case = CASES[name](n_examples)
    ours.fit(case.head(min(n_examples, 1024)), n_components, target)  # warm-up
    plain = PlainPasses(case, target)
    fitted: list = []
    methods = {
        "fit": lambda: timed(lambda: fitted.append(ours.fit(case, n_components, target)), target)[0],
        "transform": lambda: timed(lambda: fitted[-1].transform(case.X), target)[0],
        **{f"plain, TF32 {switch}": lambda switch=switch: plain_seconds(plain, switch) for switch in ("on", "off")},
    }
    seconds = {what: summary(values) for what, values in interleaved(methods, repeats).items()}
    nfk = fitted[-1]
    rate = matmul_rates(case.n_parameters, n_components + 10, target)["best"]
    fit, slow = seconds["fit"]["median"], seconds["plain, TF32 off"]["median"]
    products = 2 * product_flops(n_examples, case.n_parameters, n_components + 10) / rate
    limit = nfk.n_sweeps_ * slow + (nfk.n_sweeps_ + 1) * products
    return {
        "case": name,
        "n_examples": n_examples,
        "n_components": n_components,
        "n_parameters": case.n_parameters,
        "seed": 0,
        "n_repeats": repeats,
        "tf32": "off",
        "tf32_note": "the library holds full float32 in its products; it has no option for TF32",
        "seconds": seconds,
        "matmul_rate": rate,
        "over_limit": significant(fit / limit),
        "plain_epochs": significant(fit / slow),
        "plain_epochs_tf32": significant(fit / seconds["plain, TF32 on"]["median"]),
        **peak_of(lambda: ours.fit(case, n_components, target), target),
        **ours.plan(nfk),
    }


def plain_seconds(plain: PlainPasses, tf32: str) -> float:
    with precision("tf32" if tf32 == "on" else "ieee"):
        return plain.seconds()


@contextlib.contextmanager
def precision(wanted: str) -> Iterator[None]:
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = wanted
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value
