"""Watching a model's forward pass: where each weight is used, and on what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from ..exceptions import UnsupportedByEngineError
from ._block import DenseBlock, GradientBlock
from ._functions import ELEMENTWISE, EXPANDING, SHAPED_LIKE, TWINS, VERDICTS, breaks_tracing, tensors_in
from ._layout import Layout
from ._rules import RULES, Rule, Workspace

__all__ = ["Recorder", "TracedCall", "Use"]

OTHER_CALLS = "calls other functions for other rows"


@dataclass(frozen=True)
class TracedCall:
    """A call of a function that may use weights, as tracing found it.

    Parameters
    ----------
    name : str
        Of the function.
    shape : tuple of int
        Of its data, or of what it gives, for one example.
    layout : Layout or None
        Where the examples are in that; None where no rule can say.
    served : bool, default=True
        Whether rules may serve it; once tracing is over, whether they do.
    """

    name: str
    shape: tuple[int, ...]
    layout: Layout | None
    served: bool = True

    def is_same(self, name: str, shape: tuple[int, ...], n_rows: int) -> bool:
        """Whether a call for n_rows examples is this one."""
        if self.layout is None or name != self.name:
            return name == self.name
        axis = self.layout.axis
        return shape == (*self.shape[:axis], self.shape[axis] * n_rows, *self.shape[axis + 1 :])


@dataclass
class Use:
    """One call that used weights, and what their gradients follow from.

    Parameters
    ----------
    kind : str
        Name of the function.
    number : int
        Of the call among those that are traced.
    anchor : GradientEdge or Tensor
        What the log-density is differentiated by: the call's output.
    layout : Layout
        Where the examples are in it.
    weights : list of Tensor
        The weights as they entered: parameters, or what was made of them.
    form : callable
        From the index of a weight, a signal and a workspace to a block of gradients.
    data : Tensor or None
        The input, which must stay as it is until the gradients are formed.
    """

    kind: str
    number: int
    anchor: GradientEdge | Tensor
    layout: Layout
    weights: list[Tensor]
    form: Callable[[int, Tensor, Workspace], GradientBlock]
    data: Tensor | None = None

    def __post_init__(self) -> None:
        """Note how often the input had been written to."""
        self.version = 0 if self.data is None else self.data._version

    @torch.no_grad()
    def gradient(self, index: int, signal: Tensor, workspace: Workspace) -> GradientBlock:
        """Return the gradients of a weight, from the signal at the anchor."""
        if self.data is not None and self.data._version != self.version:
            raise UnsupportedByEngineError(
                f"engine='layerwise' cannot serve this model: the input of a '{self.kind}' is overwritten later in "
                "the forward pass. Use engine='vmap' or engine='loop'."
            )
        return self.form(index, signal, workspace)


class Recorder(TorchFunctionMode):
    """Runs a model's functions with weights that need no gradient, and notes each use.

    A tensor follows the rows if it was computed from the batch; a weight is one that
    needs a gradient and does not. What follows the rows is known to the recorder
    alone: nothing is left on the tensors.

    Parameters
    ----------
    x : Tensor of shape (B, *input)
        The batch.
    traced : sequence of TracedCall or None
        The calls that are known to come; None runs them as they are and notes shapes.
    """

    def __init__(self, x: Tensor, traced: Sequence[TracedCall] | None = None) -> None:
        super().__init__()
        self.traced = traced
        self.x = x
        self.calls: list[tuple[str, tuple[int, ...]]] = []  # name and shape
        self.uses: list[Use] = []
        self._following: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._mark(x)

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, as a use of weights where it is one."""
        kwargs = kwargs or {}
        if func in TWINS and not _is_packed(args):
            with self:
                return TWINS[func](*args, **kwargs)
        self._refuse(breaks_tracing(func, args, kwargs, self._follows_rows))
        result = self._visit(func, args, kwargs)
        if result is not NotImplemented:
            self._mark(result)
            return result
        result = func(*args, **kwargs)
        whole_batch = func in VERDICTS and len(args) == 1 and not kwargs
        decisive = args[:1] if func in SHAPED_LIKE else (args, kwargs)
        if not whole_batch and any(self._follows_rows(t) for t in tensors_in(decisive)):
            # Functions that write into a tensor may return nothing.
            self._mark(result if result is not None else args[:1])
            if result is None or result is args[0]:
                self._mark(args[0]._base)
        return result

    def require_all_traced(self) -> None:
        """Raise unless every call came that was traced."""
        if self.traced is not None and len(self.calls) != len(self.traced):
            self._refuse(OTHER_CALLS)

    def _visit(self, func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        if func in RULES:
            return self._visit_layer(RULES[func], args, kwargs)
        if func in ELEMENTWISE and len(args) == 2 and all(isinstance(t, Tensor) for t in args):
            return self._visit_elementwise(func, args, kwargs)
        if func in EXPANDING:
            return self._visit_expansion(func, args, kwargs)
        return NotImplemented

    # -------------------------------------------------------------- layers

    def _visit_layer(self, rule: Rule, args: tuple, kwargs: dict[str, Any]) -> Any:
        call = rule.bind(args, kwargs)
        if call is None:
            return NotImplemented
        data: Tensor = call[rule.data]
        layout = self._next_layout(rule.name, data.shape)
        roles = [role for role in rule.gradients if self._is_weight(call[role])]
        if layout is None or not roles or self._is_weight(data) or not rule.serves(call, layout):
            return NotImplemented
        anchor, out = _anchored(call.run(**{role: call[role].detach() for role in roles}))
        weights = [call[role] for role in roles]
        # A view of a tensor in the graph would keep the whole graph as long as the gradients.
        call.arguments.update({rule.data: data.detach(), **{role: call[role].detach() for role in roles}})

        def gradient(index: int, signal: Tensor, workspace: Workspace) -> GradientBlock:
            return rule.gradients[roles[index]](call, signal, layout, workspace)

        self._note(rule.name, anchor, layout, weights, gradient, data)
        return out

    # -------------------------------------------------------------- scales, shifts, tokens of its own

    def _visit_elementwise(self, func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Give each example a copy of the weight, whose gradient is then its own."""
        shape = torch.broadcast_shapes(args[0].shape, args[1].shape)
        layout = self._next_layout(func.__name__, shape)
        place = 0 if self._is_weight(args[0]) else 1
        weight, other = args[place], args[1 - place]
        if layout is None or not self._is_weight(weight) or self._is_weight(other):
            return NotImplemented
        padded = (1,) * (len(shape) - weight.ndim) + tuple(weight.shape)
        if padded[layout.axis] != 1:
            return NotImplemented
        own = [shape[axis] if axis == layout.axis else -1 for axis in range(len(shape))]
        copies = weight.detach().reshape(padded).expand(own).requires_grad_()
        result = func(*((copies, other) if place == 0 else (other, copies)), **kwargs)

        def gradient(index: int, signal: Tensor, workspace: Workspace) -> GradientBlock:
            return _of_each_example(signal, layout)

        self._note(func.__name__, copies, layout, [weight], gradient)
        return result

    def _visit_expansion(self, func: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Take a weight that the model itself repeats for each example as the example's own."""
        weight = args[0]
        with torch.no_grad():
            expanded = func(*args, **kwargs)
        layout = self._next_layout(func.__name__, expanded.shape)
        padded = (1,) * (expanded.ndim - weight.ndim) + tuple(weight.shape)
        if layout is None or not self._is_weight(weight) or padded[layout.axis] != 1:
            return NotImplemented
        copies = expanded.clone().requires_grad_()

        def gradient(index: int, signal: Tensor, workspace: Workspace) -> GradientBlock:
            for axis, (once, often) in enumerate(zip(padded, signal.shape, strict=True)):
                if axis != layout.axis and once != often:
                    signal = signal.unflatten(axis, (often // once, once)).sum(axis)
            return _of_each_example(signal, layout)

        self._note(func.__name__, copies, layout, [weight], gradient)
        return copies.clone()  # the model may write into it

    # -------------------------------------------------------------- notes

    def _next_layout(self, name: str, shape: Sequence[int]) -> Layout | None:
        """Note a call; return its layout, or None where no rule can be right for it."""
        number = len(self.calls)
        self.calls.append((name, tuple(shape)))
        if self.traced is None:
            return None
        if number >= len(self.traced) or not self.traced[number].is_same(name, tuple(shape), len(self.x)):
            self._refuse(OTHER_CALLS)
        return self.traced[number].layout if self.traced[number].served else None

    def _note(
        self,
        kind: str,
        anchor: GradientEdge | Tensor,
        layout: Layout,
        weights: list[Tensor],
        gradient: Callable[[int, Tensor, Workspace], GradientBlock],
        data: Tensor | None = None,
    ) -> None:
        self.uses.append(Use(kind, len(self.calls) - 1, anchor, layout, weights, gradient, data))

    def _refuse(self, what_it_does: str | None) -> None:
        if what_it_does is not None:
            raise UnsupportedByEngineError(
                f"engine='layerwise' cannot serve this model: it {what_it_does}. Use engine='vmap' or engine='loop'."
            )

    # -------------------------------------------------------------- marks

    def _is_weight(self, t: Any) -> bool:
        return isinstance(t, Tensor) and t.requires_grad and t.is_floating_point() and not self._follows_rows(t)

    def _follows_rows(self, t: Any) -> bool:
        return isinstance(t, Tensor) and t in self._following

    def _mark(self, results: Any) -> None:
        for t in tensors_in(results):
            self._following[t] = None


def _is_packed(args: tuple) -> bool:
    """Whether a recurrent layer is called with sequences of different lengths one after the other."""
    return len(args) > 3 and isinstance(args[2], Tensor) and isinstance(args[3], list | tuple)


def _anchored(out: Tensor) -> tuple[GradientEdge | Tensor, Tensor]:
    """Return what to differentiate by, and the output for the model to go on with."""
    if out.requires_grad:
        if out._is_view():  # writing into a view would lead the graph around the edge
            out = torch.ops.aten._unsafe_view(out, out.shape)
        # The edge stays at this output even where the model overwrites it.
        return get_gradient_edge(out), out
    leaf = out.detach().requires_grad_()
    return leaf, leaf.clone()


def _of_each_example(signal: Tensor, layout: Layout) -> GradientBlock:
    """Return the signal at an example's own copies of a weight as its gradient."""
    g = layout.examples_first(signal)
    return DenseBlock((g if layout.fold == 1 else g.sum(1)).reshape(g.shape[0], -1))
