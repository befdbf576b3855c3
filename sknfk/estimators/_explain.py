"""What a fit would do and cost, in words, before it is made."""

from __future__ import annotations

import html
import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._torch import exact_arithmetic
from ..densities import main_output
from ..gradients import JoinedBlock
from ._plan import Plan
from ._setup import Setup

__all__ = ["Explanation", "LayerCost", "explain_fit"]

# Passes over X that `tol=1e-3` was measured to take, on the spectra of eight trained networks.
USUAL_SWEEPS = {"krylov": 4, "subspace": 7, "exact": 2, "paper": 22, "sketch": 1, "sketch-refined": 3}


@dataclass(frozen=True)
class LayerCost:
    """What the gradients of one parameter cost for an example.

    Parameters
    ----------
    parameter : str
        Its name.
    path : str
        How its gradients are held: formed, factored, looked up, or by which engine.
    n_entries : int
        Its size.
    flops : int
        Of both products with a block of probes.
    n_bytes : int
        Of the gradients of one example, as they are held.
    """

    parameter: str
    path: str
    n_entries: int
    flops: int
    n_bytes: int


@dataclass(frozen=True, repr=False)
class Explanation:
    """The plan of a fit and what it is predicted to cost; printed or in a notebook, it is a table.

    Parameters
    ----------
    n_samples, n_parameters, n_components : int
        N, P and the most components that may be computed.
    density : str
        What the model's output is taken for.
    statistics : str
        What mean score and information are over.
    engine, engine_reason : str
        How gradients are computed, and one sentence on the choice.
    plan : Plan
        Solver, cache, batches and memory.
    layers : tuple of LayerCost
        One for each parameter.
    forward_flops : int
        Operations of the model on one example.
    n_sweeps : int
        Passes of the solver that such spectra usually take.
    seconds : float
        Predicted, from one timed batch and one timed product.
    output_range : tuple of float
        Least and largest output of the model on the first rows.
    output_entropy : float
        Mean entropy of the softmax of its outputs, in nats; nan for one output. Close
        to the logarithm of their number, or 0 for all rows, it hints at wrong scaling.
    n_processes : int, default=1
        How many fit together.
    """

    n_samples: int
    n_parameters: int
    n_components: int
    density: str
    statistics: str
    engine: str
    engine_reason: str
    plan: Plan
    layers: tuple[LayerCost, ...]
    forward_flops: int
    n_sweeps: int
    seconds: float
    output_range: tuple[float, float]
    output_entropy: float
    n_processes: int = 1

    def __repr__(self) -> str:
        """Return the table."""
        width = max(len(layer.parameter) for layer in self.layers)
        lines = [self._headline(), *(f"{word:10} {told}" for word, told in self._facts()), ""]
        for name, path, *numbers in (_HEADER, *map(_cells, self.layers)):
            entries, flops, n_bytes = numbers
            lines.append(f"{name:{width}}  {path:10}  {entries:>9}  {flops:>9}  {n_bytes:>8}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the table for a notebook; what each parameter costs folds out."""
        facts = "".join(_html_row(("th", word), ("td", told)) for word, told in self._facts())
        header = _html_row(*(("th", word) for word in _HEADER))
        layers = "".join(_html_row(*(("td", cell) for cell in _cells(layer))) for layer in self.layers)
        return (
            f"<p>{html.escape(self._headline())}</p><table>{facts}</table>"
            f"<details><summary>{len(self.layers)} parameters</summary><table>{header}{layers}</table></details>"
        )

    def _headline(self) -> str:
        together = "" if self.n_processes == 1 else f" on {self.n_processes} processes"
        return f"{self.n_samples} examples{together}, {self.n_parameters} parameters, {self.n_components} components"

    def _facts(self) -> list[tuple[str, str]]:
        """Return what the fit would do, each with a word for it."""
        plan, (low, high) = self.plan, self.output_range
        purposes = ", ".join(f"{name} {_size(n_bytes)}" for name, n_bytes in plan.memory.items())
        return [
            (
                "density",
                f"{self.density}; outputs from {low:.3g} to {high:.3g}, entropy {self.output_entropy:.2f} nats",
            ),
            ("statistics", f"of {self.statistics}"),
            ("engine", f"{self.engine}: {self.engine_reason}"),
            ("solver", f"{plan.solver}: {plan.solver_reason}"),
            *([("blocks", f"{plan.blocks}: {plan.blocks_reason}")] if self.n_processes > 1 else []),
            ("cache", f"{plan.cache}: {plan.cache_reason}"),
            ("batches", f"of {plan.batch_size}, products in {str(plan.products).removeprefix('torch.')}"),
            ("memory", f"{_size(plan.total_bytes)} of {_size(plan.max_memory)}: {purposes}"),
            (
                "predicted",
                f"{self.n_sweeps} sweeps and a pass for the statistics, {self.seconds:.1f} s; "
                f"{self.forward_flops / 1e6:.2f} MFLOP a forward pass",
            ),
        ]


_HEADER = ("parameter", "gradients", "entries", "kFLOP", "kB")


def _cells(layer: LayerCost) -> tuple[str, str, str, str, str]:
    flops, n_bytes = f"{layer.flops / 1e3:.0f}", f"{layer.n_bytes / 1e3:.1f}"
    return layer.parameter, layer.path, str(layer.n_entries), flops, n_bytes


def _html_row(*cells: tuple[str, str]) -> str:
    return "<tr>" + "".join(f'<{tag} style="text-align: left">{html.escape(s)}</{tag}>' for tag, s in cells) + "</tr>"


def explain_fit(setup: Setup, plan: Plan, rows: Any, n_components: int, n_probes: int, statistics: str) -> Explanation:
    """Describe a fit. Cost: two batches.

    Parameters
    ----------
    setup : Setup
        The model, ready.
    plan : Plan
        What the fit would do.
    rows : ndarray or Tensor of shape (N, ...)
        X on the host or its device.
    n_components : int
        K.
    n_probes : int
        Columns of a solver's block, L.
    statistics : str
        What mean score and information are over.

    Returns
    -------
    Explanation
        The description.
    """
    x = setup.peers.first_rows(setup.batches(rows).head(setup.batch_size), setup.batch_size)
    with exact_arithmetic(setup.device):
        layers = _layers(setup, x[:2], n_probes)
        forming, multiplying = _seconds_of_a_batch(setup, x, n_probes)
        low, high, entropy = _outputs(setup, x)
    n_batches = -(-max(setup.peers.n_rows, default=len(rows)) // len(x))
    n_sweeps = USUAL_SWEEPS.get(plan.solver, 10)
    n_formed = 1 if plan.cache is not None else 1 + n_sweeps
    n_sampled = -(-setup.n_reference // (len(x) * setup.peers.size))
    return Explanation(
        n_samples=setup.n_rows_in_all(rows),
        n_parameters=setup.parameters.n_parameters,
        n_components=n_components,
        density=repr(setup.density),
        statistics=statistics,
        engine=setup.engine.name,
        engine_reason=setup.engine_reason,
        plan=plan,
        layers=layers,
        forward_flops=setup.cost.forward_flops,
        n_sweeps=n_sweeps,
        seconds=(n_batches * n_formed + n_sampled) * forming + n_batches * (1 + n_sweeps) * multiplying,
        output_range=(low, high),
        output_entropy=entropy,
        n_processes=setup.peers.size,
    )


def _layers(setup: Setup, x: Tensor, n_probes: int) -> tuple[LayerCost, ...]:
    space, block = setup.parameters, setup.engine(x)
    itemsize, engine = torch.finfo(setup.dtype).bits // 8, setup.engine.name
    held = {start: part for start, _, part in block.parts} if isinstance(block, JoinedBlock) else {}
    layers, start = [], 0
    for name, size in zip(space.names, space.sizes, strict=True):
        how, n_numbers = (
            held[start].held(n_probes) if start in held else ("unused", 0) if held else (engine, size * len(x))
        )
        layers.append(LayerCost(name, how, size, 4 * size * n_probes, n_numbers // len(x) * itemsize))
        start += size
    return tuple(layers)


def _seconds_of_a_batch(setup: Setup, x: Tensor, n_probes: int) -> tuple[float, float]:
    """Time one batch of gradients, and both products with it."""
    probes = torch.ones(setup.parameters.n_parameters, n_probes, dtype=setup.dtype, device=setup.device)
    total = torch.zeros_like(probes)
    setup.engine(x)  # warm
    before = _now(setup.device)
    block = setup.engine(x)
    formed = _now(setup.device)
    block.rmatmat(block.matmat(probes), add_to=total)
    return formed - before, _now(setup.device) - formed


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


@torch.no_grad()
def _outputs(setup: Setup, x: Tensor) -> tuple[float, float, float]:
    """Return the range of the model's outputs, and their mean entropy as logits."""
    try:
        outputs = main_output(setup.module, setup.log_density_model.inputs(x))
    except Exception:  # a density may call other methods than forward
        outputs = setup.log_density_model(x)
    entropy = math.nan
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        log_p = outputs.double().log_softmax(1)
        entropy = float(-(log_p.exp() * log_p).sum(1).mean())
    return float(outputs.min()), float(outputs.max()), entropy


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.2f} GiB" if n_bytes >= 2**27 else f"{n_bytes / 2**20:.1f} MiB"
