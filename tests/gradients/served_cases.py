"""All models of which a rule serves every parameter: those of layer_cases.py, and recurrent layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .layer_cases import ATTENTION, CONVOLUTIONS, LINEAR, MADE_WEIGHTS, NORMS, TABLES_AND_TOKENS, written


def recurrent(build: Callable[[], nn.Module], time: int = 1) -> Callable[[], tuple[nn.Module, Tensor]]:
    """A recurrent layer between two linear ones; its outputs count, and its last state."""

    def forward(m, x):
        outputs, last = m.layer(torch.tanh(m.a(x)).transpose(1, time))
        last = last[0] if isinstance(last, tuple) else last  # (layers, B, d)
        return torch.cat([outputs.transpose(1, time).flatten(1), last.transpose(0, 1).flatten(1)], 1)

    return written(forward, lambda: {"a": nn.Linear(4, 4), "layer": build()}, 3, 4)


RECURRENT = {
    "lstm": recurrent(lambda: nn.LSTM(4, 3, batch_first=True)),
    "lstm of two layers in both directions": recurrent(
        lambda: nn.LSTM(4, 3, num_layers=2, bidirectional=True, batch_first=True)
    ),
    "lstm, positions first": recurrent(lambda: nn.LSTM(4, 3), time=0),
    "lstm with a projection": recurrent(lambda: nn.LSTM(4, 3, proj_size=2, batch_first=True)),
    "gru": recurrent(lambda: nn.GRU(4, 3, batch_first=True)),
    "gru without biases, positions first": recurrent(lambda: nn.GRU(4, 3, bias=False), time=0),
    "gru with dropout, in eval mode": recurrent(lambda: nn.GRU(4, 3, num_layers=2, dropout=0.5, batch_first=True)),
    "rnn": recurrent(lambda: nn.RNN(4, 3, batch_first=True)),
    "rnn with relu, as many positions as examples": recurrent(
        lambda: nn.RNN(4, 3, nonlinearity="relu", batch_first=True)
    ),
}

SERVED = CONVOLUTIONS | LINEAR | TABLES_AND_TOKENS | NORMS | MADE_WEIGHTS | ATTENTION | RECURRENT
