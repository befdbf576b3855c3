"""Finding out once where a model uses its weights, and where the examples are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from .._typing import ParameterDict
from ..exceptions import UnsupportedByEngineError
from ._layout import layout_between, layouts_that_agree
from ._model import LogDensityModel
from ._recorder import Recorder, TracedCall, Use

__all__ = ["Trace", "leaves_of", "signals_at", "trace"]


@dataclass(frozen=True)
class Trace:
    """What is decided once for a model, and rows of one shape.

    Parameters
    ----------
    calls : tuple of TracedCall
        Every call that may use weights, in its order.
    unserved : tuple of str
        Parameters that are used in ways that no rule knows.
    """

    calls: tuple[TracedCall, ...]
    unserved: tuple[str, ...]

    def record(self, model: LogDensityModel, x: Tensor) -> tuple[ParameterDict, Tensor, list[Use]]:
        """Run the model; return its parameters as leaves, its log-densities and the uses. Cost: a forward pass."""
        leaves = _leaves(model, self.unserved)
        log_densities, uses = _record(model, leaves, x, self.calls)
        if [use.number for use in uses] != [number for number, call in enumerate(self.calls) if call.served]:
            raise UnsupportedByEngineError(
                "engine='layerwise' cannot serve this model: it uses weights otherwise for other rows. "
                "Use engine='vmap' or engine='loop'."
            )
        return leaves, log_densities, uses


def _record(
    model: LogDensityModel, leaves: ParameterDict, x: Tensor, calls: Sequence[TracedCall]
) -> tuple[Tensor, list[Use]]:
    """Run the model under a recorder; return its log-densities and what it noted. Cost: one forward pass."""
    with Recorder(x, calls) as recorder:
        log_densities = model.at(leaves, x)
    recorder.require_all_traced()
    return log_densities, recorder.uses


def trace(model: LogDensityModel, x: Tensor) -> Trace:
    """Trace a model on one or two rows, alone and several in a batch.

    Cost: about ten passes over them.

    Parameters
    ----------
    model : LogDensityModel
        The function to differentiate.
    x : Tensor of shape (B, *input)
        Examples; the first two are used.

    Returns
    -------
    Trace
        Every call's layout, and the parameters that are left over.
    """
    first, other = x[:1], x[1:2] if len(x) > 1 else x[:1]
    calls = _calls_of_one_and_two(model, first)
    # In a, b, a no order by values is the order in which they stand.
    three = torch.cat([first, other, first])
    unserved: tuple[str, ...] = ()
    while True:
        leaves = _leaves(model, unserved)
        log_densities, uses = _record(model, leaves, three, calls)
        settled = _settled(calls, uses, log_densities)
        reached = {id(leaf) for leaf in leaves_of(log_densities)}
        left_over = [name for name, leaf in leaves.items() if id(leaf) in reached]
        if not left_over and _with_layout(settled) == _with_layout(calls):
            _require_weights_of_parameters_alone(uses)
            served = {use.number for use in uses}
            return Trace(tuple(replace(call, served=i in served) for i, call in enumerate(settled)), unserved)
        # Once they need no gradient, what was made from them is no weight any more.
        calls, unserved = settled, tuple(name for name in leaves if name in {*unserved, *left_over})


def signals_at(log_density: Tensor, uses: Sequence[Use]) -> list[Tensor | None]:
    """Differentiate a scalar by what each use gave; None where it does not depend on it."""
    if not uses or not log_density.requires_grad:
        return [None] * len(uses)
    anchors = cast(Sequence[Tensor], [use.anchor for use in uses])  # tensors and edges may be mixed
    return list(torch.autograd.grad(log_density, anchors, retain_graph=True, allow_unused=True))


def leaves_of(tensor: Tensor) -> list[Tensor]:
    """Return the leaves of a tensor's graph that need a gradient."""
    if tensor.grad_fn is None:
        return [tensor] if tensor.requires_grad else []
    found, seen, waiting = [], set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.append(node.variable)
        waiting.extend(following for following, _ in node.next_functions if following is not None)
    return found


def _leaves(model: LogDensityModel, unserved: Iterable[str]) -> ParameterDict:
    values = model.values()
    return {name: v if name in unserved else v.detach().requires_grad_() for name, v in values.items()}


def _calls_of_one_and_two(model: LogDensityModel, row: Tensor) -> tuple[TracedCall, ...]:
    """Compare the shapes that a batch of one and a batch of two have in each call."""
    of_one, of_two = (Recorder(row.expand(n, *row.shape[1:])) for n in (1, 2))
    for recorder in (of_one, of_two):
        with recorder:
            model.at(_leaves(model, ()), recorder.x)
    if [name for name, _ in of_one.calls] != [name for name, _ in of_two.calls]:
        raise UnsupportedByEngineError(
            "engine='layerwise' cannot serve this model: it calls other functions for a batch of two than for one "
            "example. Use engine='vmap' or engine='loop'."
        )
    return tuple(
        TracedCall(name, one, layout_between(two, one))
        for (name, one), (_, two) in zip(of_one.calls, of_two.calls, strict=True)
    )


def _settled(calls: Sequence[TracedCall], uses: Sequence[Use], log_densities: Tensor) -> tuple[TracedCall, ...]:
    """See in each use on which entries of the examples' axis every example depends.

    Entries of several positions may be ordered by example or by position; a layout
    that no order of the two is right for is dropped.
    """
    settled = list(calls)
    signals = [signals_at(log_density, uses) for log_density in log_densities]
    for use, *of_examples in zip(uses, *signals, strict=True):
        if all(signal is None for signal in of_examples):  # its gradient is zero
            continue
        entries = [_entries_reached(signal, use.layout.axis) for signal in of_examples]
        agreeing = layouts_that_agree(use.layout, entries)
        layout = agreeing[0] if len(agreeing) == 1 else None
        settled[use.number] = replace(settled[use.number], layout=layout)
    return tuple(settled)


def _entries_reached(signal: Tensor | None, axis: int) -> Tensor:
    """Return where a signal is not zero; nothing where it overflowed, which makes NaN of zeros."""
    if signal is None or not bool(signal.isfinite().all()):
        return torch.empty(0, dtype=torch.long)
    signal = signal.movedim(axis, 0)
    return signal.reshape(len(signal), -1).any(1).nonzero()[:, 0]


def _with_layout(calls: Sequence[TracedCall]) -> list[bool]:
    return [call.layout is not None for call in calls]


def _require_weights_of_parameters_alone(uses: Sequence[Use]) -> None:
    """Raise if something that was computed from rows passed for a weight."""
    ours = {id(use.anchor) for use in uses}
    if any(id(leaf) in ours for use in uses for weight in use.weights for leaf in leaves_of(weight)):
        raise UnsupportedByEngineError(
            "engine='layerwise' cannot serve this model: it makes weights from the rows. "
            "Use engine='vmap' or engine='loop'."
        )
