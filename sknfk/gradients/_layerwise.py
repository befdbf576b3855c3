"""Per-example gradients from what goes into each layer and what comes back to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from ._block import DenseBlock, GradientBlock
from ._loop import LoopEngine
from ._model import LogDensityModel
from ._parameters import ParameterSpace
from ._parts import JoinedBlock, OuterBlock
from ._recorder import Use
from ._trace import Trace, leaves_of, signals_at, trace
from ._vmap import REFUSALS, VmapEngine

__all__ = ["LayerwiseEngine"]

# Gradients from this size on are written into memory that is kept for the next batch: touching
# a fresh 100 MB was measured to cost twice the product that fills it.
KEEP_FROM_BYTES = 2**20


class LayerwiseEngine:
    """Gradients layer by layer: inputs times back-propagated signals.

    One forward pass watches every function that takes a weight (linear, convolution,
    embedding, normalisation, scales and shifts); one backward pass gives the signal at
    each of their outputs, without the weights' own summed gradients; each layer's rule
    then forms its per-example gradients or, where that is cheaper, leaves them as
    factors. Weights that are made from parameters (masked, tied, normalised,
    transposed) pull their gradients back through what made them. Parameters that are
    used in another way fall to `VmapEngine`, or to `LoopEngine` where that refuses
    them, in the same call.

    Cost: one forward and one backward pass of the batch, about as many operations
    again to form the gradients, and at most (B, P) numbers; one more pass where
    parameters fall to another engine. A block is good until the next call.

    Parameters
    ----------
    model : LogDensityModel
        The function to differentiate.
    decided : mapping or None, default=None
        ``decided`` of an engine for the same model, traced and checked before; None
        traces the model on the first rows. Rows of another shape are traced anew.
    """

    name = "layerwise"
    forming = "layerwise"

    def __init__(self, model: LogDensityModel, decided: Mapping[tuple[int, ...], Trace] | None = None) -> None:
        self.model = model
        self._known = dict(decided or {})  # by the shape of a row
        self._fallbacks: dict[tuple[str, ...], Callable[[Tensor], DenseBlock]] = {}
        self._memory: dict[tuple[int, int], Tensor] = {}

    def __call__(self, x: Tensor) -> JoinedBlock:
        """Return the gradients of rows x (B, *input)."""
        known = self._traced(x)
        blocks = self._served(x, known)
        if known.unserved:
            blocks.update(self._left_over(x, known.unserved))
        space = self.model.parameter_space
        parts, start = [], 0
        for name, size in zip(space.names, space.sizes, strict=True):
            if name in blocks:
                parts.append((start, start + size, blocks[name]))
            start += size
        return JoinedBlock(parts, len(x), space.n_parameters, next(iter(self.model.values().values())))

    @property
    def decided(self) -> dict[tuple[int, ...], Trace]:
        """What tracing has found, by the shape of a row; plain data."""
        return dict(self._known)

    def unserved(self, x: Tensor) -> tuple[str, ...]:
        """Return the names of the parameters that fall to another engine.

        Cost: some passes over two rows of x, once.
        """
        return self._traced(x).unserved

    def uses(self, x: Tensor) -> list[tuple[tuple[str, ...], Use]]:
        """Return the watched calls in a forward pass of x, and the parameters of each.

        Cost: one forward pass.
        """
        leaves, _, uses = self._traced(x).record(self.model, x)
        names = {id(leaf): name for name, leaf in leaves.items()}
        return [
            (tuple(names[id(leaf)] for w in use.weights for leaf in leaves_of(w) if id(leaf) in names), use)
            for use in uses
        ]

    def _traced(self, x: Tensor) -> Trace:
        shape = tuple(x.shape[1:])
        if shape not in self._known:
            self._known[shape] = trace(self.model, x)
        return self._known[shape]

    def _served(self, x: Tensor, known: Trace) -> dict[str, GradientBlock]:
        """Return the blocks of the parameters that rules serve, by name."""
        leaves, log_densities, uses = known.record(self.model, x)
        signals = signals_at(log_densities.sum(), uses)
        of_leaf: dict[int, list[GradientBlock]] = {id(leaf): [] for leaf in leaves.values()}
        of_made: dict[int, tuple[Tensor, list[GradientBlock]]] = {}
        for use, signal in zip(uses, signals, strict=True):
            if signal is None:  # the log-density does not depend on it
                continue
            for index, weight in enumerate(use.weights):
                if weight.is_leaf and id(weight) not in of_leaf:  # another module's, that the density calls
                    continue
                block = use.gradient(index, signal, partial(self._workspace, (use.number, index)))
                if weight.is_leaf:
                    of_leaf[id(weight)].append(block)
                else:
                    of_made.setdefault(id(weight), (weight, []))[1].append(block)
        for weight, blocks in of_made.values():
            for leaf, rows in _pulled_back(weight, _summed(blocks).rows()):
                of_leaf.setdefault(id(leaf), []).append(DenseBlock(rows))
        return {name: _summed(of_leaf[id(leaf)]) for name, leaf in leaves.items() if of_leaf[id(leaf)]}

    def _left_over(self, x: Tensor, names: tuple[str, ...]) -> dict[str, GradientBlock]:
        if names not in self._fallbacks:
            self._fallbacks[names] = self._engine_for(names, x[:2])
        sizes = dict(zip(self.model.parameter_space.names, self.model.parameter_space.sizes, strict=True))
        columns = self._fallbacks[names](x).rows().split([sizes[name] for name in names], dim=1)
        return {name: DenseBlock(rows) for name, rows in zip(names, columns, strict=True)}

    def _engine_for(self, names: Sequence[str], x: Tensor) -> Callable[[Tensor], DenseBlock]:
        space = ParameterSpace.named(self.model.model, names)
        model = LogDensityModel(self.model.model, self.model.density, space, self.model.unpack)
        try:
            engine = VmapEngine(model)
            engine(x)
        except REFUSALS:
            return LoopEngine(model)
        return engine

    def _workspace(self, key: tuple[int, int], shape: tuple[int, ...], like: Tensor) -> Tensor:
        n_entries = torch.Size(shape).numel()
        if n_entries * like.element_size() < KEEP_FROM_BYTES:
            return like.new_empty(shape)
        kept = self._memory.get(key)
        if kept is None or kept.numel() < n_entries:
            kept = self._memory[key] = like.new_empty(n_entries)
        return kept[:n_entries].view(shape)


def _summed(blocks: Sequence[GradientBlock]) -> GradientBlock:
    """Return one block for a weight that is used several times: its gradients add up."""
    if len(blocks) == 1:
        return blocks[0]
    if all(isinstance(block, OuterBlock) for block in blocks):  # a recurrent weight: as positions of one use
        signals, inputs = (torch.stack([getattr(b, name) for b in blocks], 1) for name in ("signals", "inputs"))
        return DenseBlock(torch.bmm(signals.mT, inputs).flatten(1))
    total = blocks[0].rows()
    for block in blocks[1:]:
        total = total + block.rows()
    return DenseBlock(total)


def _pulled_back(weight: Tensor, rows: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Take gradients by a weight (B, entries) to those by each parameter that it is made from."""
    leaves = leaves_of(weight)
    gradients = torch.autograd.grad(
        weight, leaves, rows.reshape(-1, *weight.shape), is_grads_batched=True, retain_graph=True
    )
    return [(leaf, g.flatten(1)) for leaf, g in zip(leaves, gradients, strict=True)]
