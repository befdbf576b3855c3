"""Gradients of a batch that are products of smaller factors, and blocks side by side."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ._block import DenseBlock, GradientBlock

__all__ = ["EmbeddingBlock", "JoinedBlock", "OuterBlock"]

# Outputs for each probe from which contracting is the faster way. It keeps d_in L numbers for each example
# where forming keeps d_out d_in; on 2 CPU cores, 128 examples, both products took (contracted, formed)
# 8 and 11 ms for 400 -> 120 and 42 probes, 25 and 26 ms for 138 probes, 28 and 44 ms for 784 -> 256 and 42.
CONTRACT_FROM = 2

# Of a slice of columns: 1 MiB stays in a processor's cache until it has been read.
SLICE_ENTRIES = 2**18


class OuterBlock:
    """Gradients g_b a_b^T of a weight that each example uses once (S = 1).

    A product with L probes costs 2 B d_out d_in L operations whether they are formed
    first or not; contracting the signals with all probes at once keeps (B, d_in, L)
    numbers in place of (B, d_out, d_in).

    Parameters
    ----------
    signals : Tensor of shape (B, d_out)
        g, back-propagated to the layer's output.
    inputs : Tensor of shape (B, d_in)
        a, what went into the layer.
    workspace : callable or None, default=None
        From a shape and a tensor of the same dtype to memory to form them in, or
        their products with the probes.
    """

    def __init__(
        self,
        signals: Tensor,
        inputs: Tensor,
        workspace: Callable[[tuple[int, ...], Tensor], Tensor] | None = None,
    ) -> None:
        self.signals = signals
        self.inputs = inputs
        self._workspace = workspace or _new_memory

    def sum(self) -> Tensor:
        """Return the sum of the rows, (d_out d_in,) in float64."""
        return (self.signals.double().T @ self.inputs.double()).flatten()

    def squared_sum(self) -> Tensor:
        """Return the sum of the squared rows, (d_out d_in,) in float64."""
        return (self.signals.double().square().T @ self.inputs.double().square()).flatten()

    def matmat(self, W: Tensor) -> Tensor:
        """Return J W for W (d_out d_in, L), as (B, L)."""
        if not self._contracts(W.shape[1]):
            return self._formed.matmat(W)
        (B, d_out), d_in = self.signals.shape, self.inputs.shape[1]
        contracted = torch.mm(self.signals, W.reshape(d_out, -1), out=self._workspace((B, d_in * W.shape[1]), W))
        return torch.bmm(self.inputs[:, None, :], contracted.view(B, d_in, -1))[:, 0]

    def rmatmat(self, Y: Tensor, add_to: Tensor | None = None) -> Tensor:
        """Return J^T Y for Y (B, L), as (d_out d_in, L); added in place to a sum."""
        if not self._contracts(Y.shape[1]):
            return self._formed.rmatmat(Y, add_to)
        (B, d_out), d_in = self.signals.shape, self.inputs.shape[1]
        weighted = self._workspace((B, d_in, Y.shape[1]), Y)
        torch.mul(self.inputs[:, :, None], Y[:, None, :], out=weighted)
        if add_to is None:
            return (self.signals.T @ weighted.flatten(1)).view(d_out * d_in, -1)
        add_to.view(d_out, -1).addmm_(self.signals.T, weighted.flatten(1))
        return add_to

    def rows(self, out: Tensor | None = None) -> Tensor:
        """Return the gradients themselves, (B, d_out d_in); in the memory given, if any."""
        outer = None if out is None else out.unflatten(1, (self.signals.shape[1], -1))
        rows = torch.mul(self.signals[:, :, None], self.inputs[:, None, :], out=outer)
        return rows.flatten(1) if out is None else out

    def columns(self) -> Iterator[tuple[int, Tensor]]:
        """Yield slices of columns (B, any) with their first column, formed one by one."""
        (B, d_out), d_in = self.signals.shape, self.inputs.shape[1]
        n_outputs = max(1, SLICE_ENTRIES // (B * d_in))
        for first, signals in zip(range(0, d_out, n_outputs), self.signals.split(n_outputs, dim=1), strict=True):
            yield first * d_in, (signals[:, :, None] * self.inputs[:, None, :]).flatten(1)

    def held(self, n_probes: int) -> tuple[str, int]:
        """Return how they are held for products with L probes, and in how many numbers."""
        if self._contracts(n_probes):
            return "factored", self.signals.numel() + self.inputs.numel()
        return "formed", self.signals.shape[1] * self.inputs.numel()

    def _contracts(self, n_probes: int) -> bool:
        # What is formed stays: products with other probes would take its memory.
        return "_formed" not in vars(self) and n_probes * CONTRACT_FROM <= self.signals.shape[1]

    @functools.cached_property
    def _formed(self) -> DenseBlock:
        shape = (len(self.signals), self.signals.shape[1] * self.inputs.shape[1])
        return DenseBlock(self.rows(self._workspace(shape, self.signals)))


def _new_memory(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return like.new_empty(shape)


class EmbeddingBlock:
    """Gradients of a table of embeddings, nonzero in what was looked up.

    They are never formed but by ``rows``: products go through the tokens that occur,
    one small matrix product for each.

    Parameters
    ----------
    tokens : Tensor of shape (B, S)
        Rows that were looked up.
    signals : Tensor of shape (B, S, d)
        Back-propagated to what was looked up.
    n_tokens : int
        Rows of the table.
    """

    def __init__(self, tokens: Tensor, signals: Tensor, n_tokens: int) -> None:
        self.tokens = tokens
        self.signals = signals
        self.n_tokens = n_tokens

    def sum(self) -> Tensor:
        """Return the sum of the rows, (n_tokens d,) in float64."""
        return self._per_token(self.tokens.flatten(), self.signals.flatten(0, 1).double()).flatten()

    def squared_sum(self) -> Tensor:
        """Return the sum of the squared rows, (n_tokens d,) in float64."""
        # A token that an example holds twice adds up before it is squared.
        pairs, place = torch.unique(self._pairs(), return_inverse=True)
        d = self.signals.shape[2]
        summed = torch.zeros(len(pairs), d, dtype=torch.float64, device=self.signals.device)
        summed.index_add_(0, place.flatten(), self.signals.flatten(0, 1).double())
        return self._per_token(pairs % self.n_tokens, summed.square_()).flatten()

    def matmat(self, W: Tensor) -> Tensor:
        """Return J W for W (n_tokens d, L), as (B, L)."""
        B, _, d = self.signals.shape
        table = W.reshape(self.n_tokens, d, -1)
        product = torch.zeros(B, W.shape[1], dtype=W.dtype, device=W.device)
        for token, examples, signals in self._occurrences():
            product.index_add_(0, examples, signals @ table[token])
        return product

    def rmatmat(self, Y: Tensor, add_to: Tensor | None = None) -> Tensor:
        """Return J^T Y for Y (B, L), as (n_tokens d, L); added in place to a sum."""
        d = self.signals.shape[2]
        if add_to is None:
            add_to = torch.zeros(self.n_tokens * d, Y.shape[1], dtype=Y.dtype, device=Y.device)
        table = add_to.view(self.n_tokens, d, -1)
        for token, examples, signals in self._occurrences():
            table[token].addmm_(signals.T, Y[examples])
        return add_to

    def rows(self, out: Tensor | None = None) -> Tensor:
        """Return the gradients themselves, (B, n_tokens d); in the memory given, if any."""
        B, _, d = self.signals.shape
        table = torch.zeros(B * self.n_tokens, d, dtype=self.signals.dtype, device=self.signals.device)
        table.index_add_(0, self._pairs().flatten(), self.signals.flatten(0, 1))
        return table.view(B, -1) if out is None else out.copy_(table.view(B, -1))

    def columns(self) -> Iterator[tuple[int, Tensor]]:
        """Yield slices of columns (B, d) with their first column, of tokens that occur."""
        B, _, d = self.signals.shape
        for token, examples, signals in self._occurrences():
            yield token * d, self.signals.new_zeros(B, d).index_add_(0, examples, signals)

    def held(self, n_probes: int) -> tuple[str, int]:
        """Return how they are held for products with L probes, and in how many numbers."""
        return "looked up", self.tokens.numel() + self.signals.numel()

    def _pairs(self) -> Tensor:
        """Return one number for each (example, token), (B, S)."""
        examples = torch.arange(len(self.tokens), device=self.tokens.device)
        return examples[:, None] * self.n_tokens + self.tokens

    def _per_token(self, tokens: Tensor, signals: Tensor) -> Tensor:
        table = torch.zeros(self.n_tokens, signals.shape[1], dtype=signals.dtype, device=signals.device)
        return table.index_add_(0, tokens, signals)

    def _occurrences(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield each token that occurs, the examples that hold it and their signals."""
        tokens, order = self.tokens.flatten().sort(stable=True)
        present, counts = torch.unique_consecutive(tokens, return_counts=True)
        examples = order // self.tokens.shape[1]
        signals = self.signals.flatten(0, 1)[order]  # (B S, d)
        ends = counts.cumsum(0).tolist()
        for token, start, stop in zip(present.tolist(), [0, *ends], ends, strict=False):
            yield token, examples[start:stop], signals[start:stop]


class JoinedBlock:
    """Blocks of different parameters, side by side.

    Parameters
    ----------
    parts : sequence of (int, int, GradientBlock)
        First and last + 1 column of a block, and the block; in order, no overlap.
    n_rows : int
        B.
    n_parameters : int
        P; columns that no part covers are zero.
    like : Tensor
        Of the dtype and on the device of the gradients.
    """

    def __init__(
        self, parts: Sequence[tuple[int, int, GradientBlock]], n_rows: int, n_parameters: int, like: Tensor
    ) -> None:
        self.parts = parts
        self.shape = (n_rows, n_parameters)
        self._like = like

    def sum(self) -> Tensor:
        """Return the sum of the rows, (P,) in float64."""
        total = self._like.new_zeros(self.shape[1], dtype=torch.float64)
        for start, stop, block in self.parts:
            total[start:stop] = block.sum()
        return total

    def squared_sum(self) -> Tensor:
        """Return the sum of the squared rows, (P,) in float64."""
        total = self._like.new_zeros(self.shape[1], dtype=torch.float64)
        for start, stop, block in self.parts:
            total[start:stop] = block.squared_sum()
        return total

    def matmat(self, W: Tensor) -> Tensor:
        """Return J W for W (P, L), as (B, L)."""
        product = W.new_zeros(self.shape[0], W.shape[1])
        for start, stop, block in self.parts:
            product += block.matmat(W[start:stop])
        return product

    def rmatmat(self, Y: Tensor, add_to: Tensor | None = None) -> Tensor:
        """Return J^T Y for Y (B, L), as (P, L); added in place where a sum is given."""
        total = Y.new_zeros(self.shape[1], Y.shape[1]) if add_to is None else add_to
        for start, stop, block in self.parts:
            block.rmatmat(Y, add_to=total[start:stop])
        return total

    def rows(self, out: Tensor | None = None) -> Tensor:
        """Return the gradients themselves, (B, P); in the memory given, if any."""
        rows = self._like.new_empty(self.shape) if out is None else out
        end = 0
        for start, stop, block in self.parts:
            rows[:, end:start] = 0.0
            block.rows(out=rows[:, start:stop])
            end = stop
        rows[:, end:] = 0.0
        return rows

    def columns(self) -> Iterator[tuple[int, Tensor]]:
        """Yield slices of columns (B, any) with their first column: those of each block."""
        yield 0, self._like.new_empty(self.shape[0], 0)  # says how many rows there are, whatever follows
        for start, _, block in self.parts:
            for first, columns in block.columns():
                yield start + first, columns

    def held(self, n_probes: int) -> tuple[str, int]:
        """Return how they are held for products with L probes, and in how many numbers."""
        held = [block.held(n_probes) for _, _, block in self.parts]
        return ", ".join(sorted({how for how, _ in held})), sum(n_numbers for _, n_numbers in held)
