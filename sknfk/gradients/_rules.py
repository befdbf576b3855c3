"""How each kind of layer's gradient follows from what went in and what comes back.

A rule knows one function of torch: which of its arguments are weights, which carries
the examples, how to call it with weights that need no gradient, and how the
per-example gradient of a weight follows from its input a and the signal g that is
back-propagated to its output.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ._block import DenseBlock, GradientBlock
from ._convolutions import convolution_rule
from ._layout import Layout
from ._parts import EmbeddingBlock, OuterBlock
from ._rule import Call, Rule, Workspace, formed_product, summed_over_positions

__all__ = ["RULES"]

# ------------------------------------------------------------------ linear layers, on vectors and on tokens


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(input, weight, bias)


def _linear_weight(call: Call, signal: Tensor, layout: Layout, workspace: Workspace) -> GradientBlock:
    a, g = layout.positions(call["input"]), layout.positions(signal)  # (B, S, d_in), (B, S, d_out)
    if a.shape[1] == 1:
        return OuterBlock(g[:, 0], a[:, 0], workspace)
    # With S >= 2 positions, forming costs less than contracting each probe with every position.
    return formed_product(g.transpose(1, 2), a, workspace)


def _is_vector(bias: Tensor | None, length: int) -> bool:
    """Whether there is no bias, or one entry for each output: not one that is broadcast."""
    return bias is None or bias.shape == (length,)


def _matmul(input: Tensor, other: Tensor) -> Tensor:
    return torch.matmul(input, other)


def _transposed_weight(data: str) -> Callable[[Call, Tensor, Layout, Workspace], GradientBlock]:
    """Return the gradient of a weight (d_in, d_out) that the data are multiplied by from the right."""

    def gradient(call: Call, signal: Tensor, layout: Layout, workspace: Workspace) -> GradientBlock:
        a, g = layout.positions(call[data]), layout.positions(signal)  # (B, S, d_in), (B, S, d_out)
        if a.shape[1] == 1:
            return OuterBlock(a[:, 0], g[:, 0], workspace)
        return formed_product(a.transpose(1, 2), g, workspace)

    return gradient


def _addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return torch.addmm(input, mat1, mat2, beta=beta, alpha=alpha)


# ------------------------------------------------------------------ embeddings


def _embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    return F.embedding(input, weight, padding_idx)


def _embedding_weight(call: Call, signal: Tensor, layout: Layout, workspace: Workspace) -> GradientBlock:
    tokens = layout.positions(call["input"][..., None])[:, :, 0]  # (B, S)
    g = layout.positions(signal)  # (B, S, d)
    n_tokens = len(call["weight"])
    if call["padding_idx"] is not None:
        g = g.masked_fill((tokens == call["padding_idx"] % n_tokens)[:, :, None], 0.0)
    return EmbeddingBlock(tokens, g, n_tokens)


# ------------------------------------------------------------------ normalisations, scales and shifts


def _layer_norm(
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    return F.layer_norm(input, normalized_shape, weight, bias, eps)


def _rms_norm(
    input: Tensor, normalized_shape: list[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    return F.rms_norm(input, normalized_shape, weight, eps)


def _group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    return F.group_norm(input, num_groups, weight, bias, eps)


def _instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def _norm_scale(call: Call, signal: Tensor, layout: Layout, workspace: Workspace) -> GradientBlock:
    unscaled = {name: None for name in ("weight", "bias") if name in call.arguments}
    normal = call.run(**unscaled)
    return DenseBlock(_over_positions(call, signal * normal, layout))


def _norm_shift(call: Call, signal: Tensor, layout: Layout, workspace: Workspace) -> GradientBlock:
    return DenseBlock(_over_positions(call, signal, layout))


def _over_positions(call: Call, product: Tensor, layout: Layout) -> Tensor:
    """Sum over all axes but the examples' and the weight's: (B, ...) to (B, entries)."""
    if "normalized_shape" in call.arguments:  # the weight's axes are the last ones
        return layout.positions(product, n_last=len(call["normalized_shape"])).sum(1)
    return product.flatten(2).sum(2) if product.ndim > 2 else product  # they are the second


def _norm_rule(function: Callable, weights: tuple[str, ...], *, first_axis: bool = False) -> Rule:
    gradients = {"weight": _norm_scale, "bias": _norm_shift}
    return Rule(
        function,
        "input",
        {name: gradients[name] for name in weights},
        knows=lambda call: not call.arguments.get("training", False),
        folds=not first_axis,
        any_axis=not first_axis,
    )


_linear_rule = Rule(
    _linear,
    "input",
    {"weight": _linear_weight, "bias": summed_over_positions},
    knows=lambda call: call["weight"].ndim == 2 and _is_vector(call["bias"], len(call["weight"])),
    folds=True,
    any_axis=True,
)
_matmul_rule = Rule(
    _matmul,
    "input",
    {"other": _transposed_weight("input")},
    knows=lambda call: call["other"].ndim == 2 and call["input"].ndim >= 2,
    folds=True,
    any_axis=True,
)
_addmm_rule = Rule(
    _addmm,
    "mat1",
    {"mat2": _transposed_weight("mat1"), "input": summed_over_positions},
    knows=lambda call: call["beta"] == call["alpha"] == 1 and _is_vector(call["input"], call["mat2"].shape[1]),
    folds=True,
)
_embedding_rule = Rule(
    _embedding,
    "input",
    {"weight": _embedding_weight},
    knows=lambda call: call["max_norm"] is None and not call["scale_grad_by_freq"],
    folds=True,
    any_axis=True,
    data_is_tokens=True,
)

RULES: dict[Callable, Rule] = {
    F.linear: _linear_rule,
    F.embedding: _embedding_rule,
    F.layer_norm: _norm_rule(_layer_norm, ("weight", "bias")),
    F.rms_norm: _norm_rule(_rms_norm, ("weight",)),
    F.group_norm: _norm_rule(_group_norm, ("weight", "bias"), first_axis=True),
    F.instance_norm: _norm_rule(_instance_norm, ("weight", "bias"), first_axis=True),
    F.batch_norm: _norm_rule(_batch_norm, ("weight", "bias"), first_axis=True),
    F.conv1d: convolution_rule(1, transposed=False),
    F.conv2d: convolution_rule(2, transposed=False),
    F.conv3d: convolution_rule(3, transposed=False),
    F.conv_transpose1d: convolution_rule(1, transposed=True),
    F.conv_transpose2d: convolution_rule(2, transposed=True),
    F.conv_transpose3d: convolution_rule(3, transposed=True),
    torch.addmm: _addmm_rule,
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.mm, Tensor.mm), _matmul_rule),
}
