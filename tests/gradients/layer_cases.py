"""One small model for each way of using a weight, as factories."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from sknfk.densities import CallableDensity

from ..cases import seeded

B = 4


def wave(model: nn.Module, x: Tensor) -> Tensor:
    """A log-density to which every output of a model contributes otherwise."""
    out = model(x).flatten(1)
    return (torch.sin(out) * torch.linspace(0.5, 1.5, out.shape[1], dtype=out.dtype)).sum(1)


WAVE = CallableDensity(wave)


class Around(nn.Module):
    """A linear layer on the last axis, then the layer in question: signals have come some way."""

    def __init__(self, layer: nn.Module, n_last: int):
        super().__init__()
        self.before, self.layer = nn.Linear(n_last, n_last), layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.tanh(self.before(x)))


class Written(nn.Module):
    """A model that is a function of itself and the rows, with some parameters by name."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor], **parts: Tensor | nn.Module):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part if isinstance(part, nn.Module) else nn.Parameter(part))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def gaussian(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def around(build: Callable[[], nn.Module], *shape: int) -> Callable[[], tuple[nn.Module, Tensor]]:
    return lambda: (seeded(lambda: shaken(Around(build(), shape[-1]))), gaussian(B, *shape))


def written(function, parts: Callable[[], dict], *shape: int, rows: int = B) -> Callable[[], tuple[nn.Module, Tensor]]:
    return lambda: (seeded(lambda: shaken(Written(function, **parts()))), gaussian(rows, *shape))


def shaken(model: nn.Module) -> nn.Module:
    """Move ones and zeros, from which scales, shifts and statistics start, to other values."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand_like(tensor))
    return model


CONVOLUTIONS = {
    "conv1d": around(lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), 3, 9),
    "conv1d dilated": around(lambda: nn.Conv1d(3, 4, 3, dilation=2, padding=2), 3, 9),
    "conv1d, one position": around(lambda: nn.Conv1d(3, 4, 9), 3, 9),
    "conv2d": around(lambda: nn.Conv2d(2, 3, 3), 2, 6, 7),
    "conv2d pointwise": around(lambda: nn.Conv2d(2, 3, 1), 2, 6, 7),
    "conv2d pointwise, strided": around(lambda: nn.Conv2d(2, 3, 1, stride=2), 2, 6, 7),
    "conv2d without bias": around(lambda: nn.Conv2d(2, 3, 3, bias=False), 2, 6, 7),
    "conv2d uneven": around(lambda: nn.Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), 2, 6, 7),
    "conv2d that leaves a rest": around(lambda: nn.Conv2d(2, 3, 3, stride=3), 2, 7, 8),
    "conv2d same, odd kernel": around(lambda: nn.Conv2d(2, 3, 3, padding="same"), 2, 6, 7),
    "conv2d same, even kernel": around(lambda: nn.Conv2d(2, 3, (4, 2), padding="same"), 2, 6, 7),
    "conv2d same, even and dilated": around(lambda: nn.Conv2d(2, 3, (2, 4), padding="same", dilation=(3, 1)), 2, 9, 7),
    "conv2d valid": around(lambda: nn.Conv2d(2, 3, 3, padding="valid"), 2, 6, 7),
    "conv2d circular": around(lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), 2, 6, 7),
    "conv2d reflected": around(lambda: nn.Conv2d(2, 3, 4, padding="same", padding_mode="reflect"), 2, 6, 7),
    "conv2d grouped": around(lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), 4, 5, 5),
    "conv2d depthwise": around(lambda: nn.Conv2d(4, 8, 3, groups=4, stride=2), 4, 6, 6),
    "conv3d": around(lambda: nn.Conv3d(2, 3, (2, 3, 2), stride=(1, 2, 1), padding=1), 2, 3, 5, 4),
    "conv3d grouped": around(lambda: nn.Conv3d(2, 4, 2, groups=2, padding="same"), 2, 3, 4, 4),
    "transposed 1d": around(lambda: nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1), 3, 5),
    "transposed 2d": around(lambda: nn.ConvTranspose2d(3, 2, 3, stride=(2, 3), output_padding=(1, 2)), 3, 3, 4),
    "transposed 2d grouped": around(lambda: nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2), 4, 3, 4),
    "transposed 3d": around(lambda: nn.ConvTranspose3d(2, 2, 2, stride=2, padding=1, groups=2), 2, 2, 3, 3),
}


def positions_first(m: Written, x: Tensor) -> Tensor:
    h = torch.tanh(m.a(x.transpose(0, 1)))  # (T, B, d)
    return m.b(h).transpose(0, 1)


def flattened(m: Written, x: Tensor) -> Tensor:
    h = torch.tanh(m.a(x.flatten(0, 1)))  # (B T, d)
    return (m.shift + m.b(h) * m.scale).unflatten(0, x.shape[:2])


def flattened_by_position(m: Written, x: Tensor) -> Tensor:
    h = torch.tanh(m.a(x.transpose(0, 1).flatten(0, 1)))  # (T B, d)
    return (m.shift + m.b(h) * m.scale).unflatten(0, (x.shape[1], -1)).transpose(0, 1)


def flattened_on_the_second_axis(m: Written, x: Tensor) -> Tensor:
    h = x.unflatten(2, (2, -1)).movedim(2, 0).flatten(1, 2)  # (2, B T, d / 2)
    return m.part(h).sum(0).unflatten(0, x.shape[:2])


def two_linear() -> dict:
    return {"a": nn.Linear(4, 5), "b": nn.Linear(5, 3), "scale": torch.rand(3), "shift": torch.rand(3)}


LINEAR = {
    "linear on vectors": around(lambda: nn.Linear(5, 3), 5),
    "linear on wide vectors": around(lambda: nn.Linear(40, 3), 40),
    "linear without bias": around(lambda: nn.Linear(5, 3, bias=False), 5),
    "linear on tokens": around(lambda: nn.Linear(4, 3), 6, 4),
    "linear on a grid": around(lambda: nn.Linear(4, 3), 2, 3, 4),
    "linear on one token": around(lambda: nn.Linear(4, 3), 1, 4),
    "linear, positions first": written(positions_first, two_linear, 6, 4),
    "linear, positions first, as many as examples": written(positions_first, two_linear, B, 4),
    "linear, examples first, as many positions": written(lambda m, x: m.b(torch.tanh(m.a(x))), two_linear, B, 4),
    "linear, flattened by example": written(flattened, two_linear, 6, 4),
    "linear, flattened by position": written(flattened_by_position, two_linear, 6, 4),
    "linear, flattened, as many positions as examples": written(flattened_by_position, two_linear, B, 4),
    "linear, flattened on the second axis": written(
        flattened_on_the_second_axis, lambda: {"part": nn.Linear(2, 3)}, 5, 4
    ),
    "product with a parameter": written(
        lambda m, x: torch.tanh(x @ m.W) @ m.V, lambda: {"W": torch.rand(4, 5), "V": torch.rand(5, 2)}, 4
    ),
    "product with a parameter, on tokens": written(
        lambda m, x: torch.matmul(torch.tanh(x @ m.W), m.V),
        lambda: {"W": torch.rand(4, 5), "V": torch.rand(5, 2)},
        3,
        4,
    ),
    "mm": written(lambda m, x: torch.tanh(x.mm(m.W)), lambda: {"W": torch.rand(4, 5)}, 4),
    "addmm on flattened tokens": written(
        lambda m, x: torch.addmm(m.b, x.view(-1, x.size(-1)), m.W).view(*x.shape[:-1], -1),
        lambda: {"W": torch.rand(4, 5), "b": torch.rand(5)},
        3,
        4,
    ),
    "addmm on vectors": written(
        lambda m, x: torch.addmm(m.b, x, m.W), lambda: {"W": torch.rand(4, 5), "b": torch.rand(5)}, 4
    ),
}


def tied_head(m: Written, x: Tensor) -> Tensor:
    tokens = x.abs().mul(3).long() % 7
    return F.linear(torch.tanh(m.table(tokens)), m.table.weight)


def embedded(**options) -> Callable[[], tuple[nn.Module, Tensor]]:
    def build():
        model = seeded(lambda: nn.Sequential(nn.Embedding(7, 3, **options), nn.Tanh(), nn.Linear(3, 2)))
        return model, torch.tensor([[1, 1, 0, 5], [6, 2, 2, 2], [3, 3, 3, 3], [0, 6, 0, 1]])

    return build


def class_token(repeat: Callable[[Tensor, int], Tensor]) -> Callable[[nn.Module, Tensor], Tensor]:
    def forward(m, x):
        return m.head(torch.tanh(torch.cat([repeat(m.token, len(x)), x], 1) + m.place))

    return forward


def token_parts() -> dict:
    return {"token": torch.rand(1, 1, 4), "place": torch.rand(1, 4, 4), "head": nn.Linear(4, 2)}


def like_bert(m: Written, x: Tensor) -> Tensor:
    kinds = torch.zeros(1, x.shape[1], dtype=torch.long).expand(x.shape[:2])
    places = torch.arange(x.shape[1])[None]
    return m.norm(torch.tanh(x) + m.kind(kinds) + m.place(places))


def like_clip(m: Written, x: Tensor) -> Tensor:
    token = m.token.to(x.dtype) + torch.zeros(len(x), 1, x.shape[-1], dtype=x.dtype)
    return m.head(torch.cat([token, x], dim=1))


TABLES_AND_TOKENS = {
    "embedding with repeated tokens": embedded(),
    "embedding with padding": embedded(padding_idx=-1),
    "embedding tied with the head": written(tied_head, lambda: {"table": nn.Embedding(7, 3)}, 5),
    "class token by expand": written(class_token(lambda t, n: t.expand(n, -1, -1)), token_parts, 3, 4),
    "class token by repeat": written(class_token(lambda t, n: t.repeat(n, 1, 1)), token_parts, 3, 4),
    "class token by broadcast_to": written(class_token(lambda t, n: t.broadcast_to(n, 1, 4)), token_parts, 3, 4),
    "a token repeated along other axes too": written(
        lambda m, x: torch.tanh(m.t.repeat(len(x), 3, 2) * x), lambda: {"t": torch.rand(1, 1, 2)}, 3, 4
    ),
    "a token tiled along other axes too": written(
        lambda m, x: torch.tanh(m.t.repeat(len(x), 2, 2) * x), lambda: {"t": torch.rand(2, 2)}, 4, 4
    ),
    "queries repeated on the second axis": written(
        lambda m, x: torch.tanh(m.q.unsqueeze(1).repeat(1, len(x), 1) * x.transpose(0, 1)).transpose(0, 1),
        lambda: {"q": torch.rand(3, 4)},
        3,
        4,
    ),
    "places and kinds looked up": written(
        like_bert,
        lambda: {"norm": nn.LayerNorm(4), "kind": nn.Embedding(2, 4), "place": nn.Embedding(6, 4)},
        3,
        4,
    ),
    "class token added to zeros": written(like_clip, lambda: {"token": torch.rand(4), "head": nn.Linear(4, 2)}, 3, 4),
}

NORMS = {
    "layer norm": around(lambda: nn.LayerNorm(4), 4),
    "layer norm on tokens": around(lambda: nn.LayerNorm(4), 3, 4),
    "layer norm over two axes": around(lambda: nn.LayerNorm((3, 4)), 2, 3, 4),
    "layer norm without bias": around(lambda: nn.LayerNorm(4, bias=False), 3, 4),
    "layer norm without weights": around(lambda: nn.LayerNorm(4, elementwise_affine=False), 3, 4),
    "rms norm": around(lambda: nn.RMSNorm(4), 3, 4),
    "group norm": around(lambda: nn.GroupNorm(2, 4), 4, 3, 3),
    "group norm on vectors": around(lambda: nn.GroupNorm(2, 4), 4),
    "batch norm 1d": around(lambda: nn.BatchNorm1d(4), 4),
    "batch norm on sequences": around(lambda: nn.BatchNorm1d(4), 4, 3),
    "batch norm 2d": around(lambda: nn.BatchNorm2d(4), 4, 3, 3),
    "batch norm without weights": around(lambda: nn.BatchNorm2d(4, affine=False), 4, 3, 3),
    "instance norm": around(lambda: nn.InstanceNorm2d(4, affine=True), 4, 3, 3),
    "channel scale and shift": written(
        lambda m, x: m.gamma[:, None, None] * torch.tanh(x) + m.beta[:, None, None],
        lambda: {"gamma": torch.rand(4), "beta": torch.rand(4)},
        4,
        3,
        3,
    ),
    "scale, shift and power": written(
        lambda m, x: (x.abs() / m.a - m.b).abs() ** m.c + torch.maximum(x, m.d),
        lambda: {"a": torch.rand(4), "b": torch.rand(4), "c": 1 + torch.rand(4), "d": torch.rand(1)},
        3,
        4,
    ),
    "scale in place": written(
        lambda m, x: torch.tanh(x).mul_(m.gamma).add_(m.beta),
        lambda: {"gamma": torch.rand(4), "beta": torch.rand(())},
        3,
        4,
    ),
    "a temperature": written(
        lambda m, x: m.head(x)[:, 0].div(m.temperature)[:, None],
        lambda: {"head": nn.Linear(4, 1), "temperature": torch.rand(())},
        4,
    ),
    "add with a factor": written(lambda m, x: torch.add(x, m.b, alpha=2), lambda: {"b": torch.rand(4)}, 3, 4),
}


def parametrized(build: Callable[[], nn.Module], *shape: int) -> Callable[[], tuple[nn.Module, Tensor]]:
    return around(build, *shape)


class Doubled(nn.Module):
    def forward(self, W: Tensor) -> Tensor:
        return torch.cat([W, 2 * W])


def doubled() -> nn.Module:
    return parametrize.register_parametrization(nn.Linear(4, 3, bias=False), "weight", Doubled(), unsafe=True)


def reused(m: Written, x: Tensor) -> Tensor:
    return m.a(torch.tanh(m.a(torch.tanh(m.a(x)))))


def residual_in_place(m: Written, x: Tensor) -> Tensor:
    h = m.a(x)
    h += x
    g = F.relu(m.norm(h), inplace=True)
    h = m.b(g)
    h += x
    return h


MADE_WEIGHTS = {
    "masked weight": written(
        lambda m, x: F.linear(x, m.W * m.W.detach().new_ones(3, 4).tril(), m.b),
        lambda: {"W": torch.rand(3, 4), "b": torch.rand(3)},
        4,
    ),
    "weight norm": parametrized(lambda: parametrizations.weight_norm(nn.Linear(4, 3)), 4),
    "weight norm of a convolution": parametrized(lambda: parametrizations.weight_norm(nn.Conv2d(2, 3, 3)), 2, 5, 5),
    "spectral norm": parametrized(lambda: parametrizations.spectral_norm(nn.Linear(4, 3)), 4),
    "a weight joined of two": parametrized(doubled, 3, 4),
    "transposed weight": written(lambda m, x: F.linear(x, m.W.t()), lambda: {"W": torch.rand(4, 3)}, 4),
    "slices of a weight": written(
        lambda m, x: torch.tanh(F.linear(x, m.W[:2], m.b[:2])) + F.linear(x, m.W[2:], m.b[2:]),
        lambda: {"W": torch.rand(4, 4), "b": torch.rand(4)},
        3,
        4,
    ),
    "a low-rank change": written(
        lambda m, x: F.linear(x, m.W + m.u @ m.v),
        lambda: {"W": torch.rand(3, 4), "u": torch.rand(3, 2), "v": torch.rand(2, 4)},
        4,
    ),
    "a layer called three times": written(reused, lambda: {"a": nn.Linear(4, 4)}, 3, 4),
    "one weight as two layers": written(
        lambda m, x: F.linear(torch.tanh(x @ m.W), m.W), lambda: {"W": torch.rand(4, 5)}, 4
    ),
    "residuals in place": written(
        residual_in_place, lambda: {"a": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "b": nn.Linear(4, 4)}, 3, 4
    ),
    "activations in place": lambda: (
        seeded(
            lambda: shaken(
                nn.Sequential(
                    nn.Conv2d(2, 3, 3),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(3, 3, 3),
                    nn.BatchNorm2d(3),
                    nn.ReLU(inplace=True),
                    nn.Flatten(),
                    nn.Linear(12, 4),
                    nn.LeakyReLU(0.1, inplace=True),
                )
            )
        ),
        gaussian(B, 2, 6, 6),
    ),
}


class Encoder(nn.Module):
    def __init__(self, batch_first: bool, norm_first: bool):
        super().__init__()
        self.place, self.batch_first = nn.Parameter(torch.randn(1, 5, 4)), batch_first
        layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=batch_first, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        h = x + self.place
        return self.encoder(h) if self.batch_first else self.encoder(h.transpose(0, 1)).transpose(0, 1)


def encoder(batch_first: bool, norm_first: bool) -> Callable[[], tuple[nn.Module, Tensor]]:
    return lambda: (seeded(lambda: shaken(Encoder(batch_first, norm_first))), gaussian(B, 5, 4))


def learned_bias_in_attention(m: Written, x: Tensor) -> Tensor:
    q, k, v = m.qkv(x).chunk(3, dim=-1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=(x @ x.transpose(1, 2)) * 0.1 + m.bias)


def attended(**options) -> Callable[[nn.Module, Tensor], Tensor]:
    def forward(m, x):
        return m.attention(x, x, x, need_weights=False, **options)[0]

    return forward


ATTENTION = {
    "attention": written(attended(), lambda: {"attention": nn.MultiheadAttention(4, 2, batch_first=True)}, 3, 4),
    "attention, causal": written(
        attended(attn_mask=torch.full((3, 3), -torch.inf, dtype=torch.float64).triu(1)),
        lambda: {"attention": nn.MultiheadAttention(4, 2, batch_first=True)},
        3,
        4,
    ),
    "attention with keys of another size": written(
        lambda m, x: m.attention(x, torch.tanh(x[..., :2]), x[..., 1:], need_weights=False)[0],
        lambda: {"attention": nn.MultiheadAttention(4, 2, batch_first=True, kdim=2, vdim=3)},
        3,
        4,
    ),
    "attention with a learned bias": written(
        learned_bias_in_attention, lambda: {"qkv": nn.Linear(4, 12), "bias": torch.rand(3, 3)}, 3, 4
    ),
    **{f"encoder, batch_first={b}, norm_first={n}": encoder(b, n) for b in (True, False) for n in (True, False)},
}
