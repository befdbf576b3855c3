"""Recurrent layers written out, so that each use of their weights can be seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["RECURRENT"]

# (gates of the input, gates of the state, state) -> state; a state is (h,) or (h, c).
Step = Callable[[Tensor, Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]


def lstm(x: Tensor, hx: Sequence[Tensor], weights: Sequence[Tensor], *options: Any) -> Any:
    """Return what ``torch.lstm`` does: the outputs, and the last h and c of each layer and direction."""
    outputs, states = _layers(x, tuple(hx), weights, _lstm_step, *options)
    return outputs, *states


def gru(x: Tensor, hx: Tensor, weights: Sequence[Tensor], *options: Any) -> Any:
    """Return what ``torch.gru`` does."""
    outputs, states = _layers(x, (hx,), weights, _gru_step, *options)
    return outputs, *states


def rnn_tanh(x: Tensor, hx: Tensor, weights: Sequence[Tensor], *options: Any) -> Any:
    """Return what ``torch.rnn_tanh`` does."""
    outputs, states = _layers(x, (hx,), weights, lambda a, b, s: (torch.tanh(a + b),), *options)
    return outputs, *states


def rnn_relu(x: Tensor, hx: Tensor, weights: Sequence[Tensor], *options: Any) -> Any:
    """Return what ``torch.rnn_relu`` does."""
    outputs, states = _layers(x, (hx,), weights, lambda a, b, s: (torch.relu(a + b),), *options)
    return outputs, *states


RECURRENT: dict[Callable, Callable] = {
    torch.lstm: lstm,
    torch.gru: gru,
    torch.rnn_tanh: rnn_tanh,
    torch.rnn_relu: rnn_relu,
}


def _layers(
    x: Tensor,
    hx: tuple[Tensor, ...],
    weights: Sequence[Tensor],
    step: Step,
    has_biases: bool,
    n_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, list[Tensor]]:
    """Run all layers and directions; dropout counts for nothing in eval mode."""
    time, n_directions = (1 if batch_first else 0), (2 if bidirectional else 1)
    n_each = len(weights) // (n_layers * n_directions)  # more than four where outputs are projected
    last: list[tuple[Tensor, ...]] = []
    for layer in range(n_layers):
        directions = []
        for direction in range(n_directions):
            number = layer * n_directions + direction
            own = weights[number * n_each : (number + 1) * n_each]
            outputs, state = _direction(x, tuple(h[number] for h in hx), own, step, has_biases, time, direction == 1)
            directions.append(outputs)
            last.append(state)
        x = torch.cat(directions, dim=-1) if n_directions > 1 else directions[0]
    return x, [torch.stack(parts) for parts in zip(*last, strict=True)]


def _direction(
    x: Tensor,
    state: tuple[Tensor, ...],
    weights: Sequence[Tensor],
    step: Step,
    has_biases: bool,
    time: int,
    is_reversed: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    biases = weights[2:4] if has_biases else (None, None)
    projection = weights[-1] if len(weights) in (3, 5) else None
    gates = F.linear(x, weights[0], biases[0]).unbind(time)  # of all steps at once
    outputs = []
    for own in reversed(gates) if is_reversed else gates:
        state = step(own, F.linear(state[0], weights[1], biases[1]), state)
        if projection is not None:
            state = (F.linear(state[0], projection), *state[1:])
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if is_reversed else outputs, dim=time), state


def _lstm_step(of_input: Tensor, of_state: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    i, f, g, o = (of_input + of_state).chunk(4, dim=-1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru_step(of_input: Tensor, of_state: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    (a, b, c), (d, e, f) = of_input.chunk(3, dim=-1), of_state.chunk(3, dim=-1)
    r, z = torch.sigmoid(a + d), torch.sigmoid(b + e)
    n = torch.tanh(c + r * f)
    return ((1 - z) * n + z * state[0],)
