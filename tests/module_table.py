"""Which engine serves which kind of module: ``python -m tests.module_table`` tries each and writes docs/modules.rst."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from sknfk._torch import evaluation_copy, exact_arithmetic, plain_module
from sknfk.exceptions import UnsupportedByEngineError
from sknfk.gradients import Engine, LogDensityModel, ParameterSpace, select_engine

from .cases import seeded
from .gradients.layer_cases import WAVE, Around, B, Written, gaussian, shaken, wave, written
from .gradients.served_cases import SERVED

PAGE = Path(__file__).resolve().parent.parent / "docs" / "modules.rst"
ENGINES = ("layerwise", "vmap", "jvp", "loop")
RTOL = 1e-9  # float64; where torch's own kernels take other orders of sums in a batch

Case = Callable[[], tuple[nn.Module, Tensor]]


class Last(nn.Module):
    """A recurrent layer, of which the last output counts."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


def recurrent(build: Callable[[], nn.Module]) -> Case:
    return lambda: (seeded(lambda: shaken(Last(build()))), gaussian(B, 5, 3))


def layer(build: Callable[[], nn.Module], *shape: int) -> Case:
    return lambda: (seeded(lambda: shaken(Around(build(), shape[-1]))), gaussian(B, *shape))


def by_sign(m: Written, x: Tensor) -> Tensor:
    return m.a(x) if float(x.sum()) > 0 else m.b(x)


def tied(m: Written, x: Tensor) -> Tensor:
    return torch.tanh(m.a(x)) @ m.a.weight


def checkpointed(m: Written, x: Tensor) -> Tensor:
    return m.b(checkpoint(lambda h: torch.tanh(m.a(h)), x, use_reentrant=False))


def two_layers() -> dict:
    return {"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}


def compiled() -> tuple[nn.Module, Tensor]:
    model = seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
    return torch.compile(model), gaussian(B, 4)


def orthogonal() -> nn.Module:
    return parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="matrix_exp")


MODULES: dict[str, Case] = {
    "``Linear`` on vectors": SERVED["linear on vectors"],
    "``Linear`` on tokens": SERVED["linear on tokens"],
    "``Conv1d``, dilated": SERVED["conv1d dilated"],
    "``Conv2d``": SERVED["conv2d"],
    "``Conv2d``, grouped": SERVED["conv2d grouped"],
    "``Conv3d``": SERVED["conv3d"],
    "``ConvTranspose2d``": SERVED["transposed 2d"],
    "``Embedding``": SERVED["embedding with repeated tokens"],
    "``LayerNorm``": SERVED["layer norm on tokens"],
    "``GroupNorm``": SERVED["group norm"],
    "``BatchNorm2d`` in eval mode": SERVED["batch norm 2d"],
    "``RMSNorm``": SERVED["rms norm"],
    "``InstanceNorm2d``": SERVED["instance norm"],
    "``PReLU``": layer(nn.PReLU, 4),
    "``Bilinear``": written(lambda m, x: m.a(x, torch.tanh(x)), lambda: {"a": nn.Bilinear(4, 4, 3)}, 4),
    "``MultiheadAttention``": SERVED["attention"],
    "``TransformerEncoderLayer``": SERVED["encoder, batch_first=True, norm_first=False"],
    "``scaled_dot_product_attention``": SERVED["attention with a learned bias"],
    "``RNN``": recurrent(lambda: nn.RNN(3, 4, batch_first=True)),
    "``LSTM``": recurrent(lambda: nn.LSTM(3, 4, batch_first=True)),
    "``GRU``": recurrent(lambda: nn.GRU(3, 4, batch_first=True)),
    "``spectral_norm``": SERVED["spectral norm"],
    "``weight_norm``": SERVED["weight norm"],
    "``orthogonal``": layer(orthogonal, 4),
    "Weights under a mask": SERVED["masked weight"],
    "A low-rank change of a weight": SERVED["a low-rank change"],
    "A weight tied to two layers": written(tied, lambda: {"a": nn.Linear(4, 4)}, 4),
    "A layer called three times": SERVED["a layer called three times"],
    "Activations in place": SERVED["activations in place"],
    "Scales and shifts of one's own": SERVED["channel scale and shift"],
    "A class token": SERVED["class token by expand"],
    "Control flow by the values of the rows": written(by_sign, two_layers, 4),
    "Gradient checkpointing": written(checkpointed, two_layers, 4),
    "``torch.compile``": compiled,
}


def seen(case: Case) -> tuple[LogDensityModel, Tensor]:
    model, x = case()
    module = plain_module(model)
    own = evaluation_copy(module, torch.device("cpu"), torch.float64)
    return LogDensityModel(own, WAVE, ParameterSpace.of(module)), x


def engine_of(case: Case, name: str) -> tuple[Engine, Tensor] | None:
    """Return an engine as a fit would have it, and rows; None where it is refused."""
    model, x = seen(case)
    try:
        with exact_arithmetic(x.device):
            return select_engine(name, model, x[:3])[0], x
    except UnsupportedByEngineError:
        return None


def plain_gradients(case: Case) -> Tensor:
    """Gradients by nothing of ours, one row at a time, (B, P)."""
    model, x = case()
    own = plain_module(model)
    parameters = list(own.parameters())
    gradients = []
    with exact_arithmetic(x.device):
        for row in x:
            found = torch.autograd.grad(
                wave(own, row[None]).sum(), parameters, allow_unused=True, materialize_grads=True
            )
            gradients.append(torch.cat([g.flatten() for g in found]))
    return torch.stack(gradients)


def cell(case: Case, name: str) -> str:
    served = engine_of(case, name)
    if served is None:
        return "no"
    engine, x = served
    left = engine.unserved(x) if name == "layerwise" else ()
    return f"yes, but {len(left)} of {len(engine.model.parameter_space.names)}" if left else "yes"


def table() -> list[tuple[str, ...]]:
    rows = []
    for name, case in MODULES.items():
        served = engine_of(case, "auto")
        assert served is not None
        rows.append((name, *(cell(case, engine) for engine in ENGINES), served[0].name))
    return rows


INTRODUCTION = """.. Written by python -m tests.module_table; a test fails where it differs from what is found.

Which modules
=============

Every module that torch can differentiate is served: by the fast engine where its rules know how a weight is used, by a
slower one where they do not. The table is the outcome of a test run. "yes" means that the engine's gradients are those
of plain autograd, one example at a time, to a relative {rtol:.0e} in float64; "yes, but 2 of 4" that two of four
parameters fall to ``vmap`` or the loop in the same sweep; "no" that the engine refuses the module in words and
``engine="auto"`` takes another, the one in the last column.

"""

NOTES = """
* A parametrised weight (``weight_norm``, ``spectral_norm``, ``orthogonal``, masks, low-rank changes) is differentiated
  by the parameters underneath, those that ``named_parameters`` lists, not by the weight that they make.
* A weight that is used in several places counts once, and its gradients add up.
* Modules run in eval mode: dropout is off, batch normalisation uses its running statistics.
* What ``torch.compile`` has wrapped is unwrapped: compiled code hides its layers.
* Models in half precision are computed with as a float32 copy.
* Quantised modules, ``DataParallel``, modules on the ``meta`` device, on several devices or sharded over processes are
  refused with the remedy.
"""


def page() -> str:
    lines = [".. list-table::", "    :header-rows: 1", "    :widths: 34 16 10 10 10 20", ""]
    for row in [("Module", *(f"``{engine}``" for engine in ENGINES), "``auto``"), *table()]:
        lines += [f"    {'* -' if i == 0 else '  -'} {text}" for i, text in enumerate(row)]
    return INTRODUCTION.format(rtol=RTOL) + "\n".join(lines) + "\n" + NOTES


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
