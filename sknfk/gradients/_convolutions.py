"""Per-example gradients of convolutions, by whichever of two ways suits the layer."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ._block import DenseBlock, GradientBlock
from ._layout import Layout
from ._parts import OuterBlock
from ._rule import Call, Rule, Workspace, formed_product

__all__ = ["convolution_rule"]

FORWARD = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def convolution_rule(n_axes: int, *, transposed: bool) -> Rule:
    """Return the rule of a convolution over some axes of space."""

    def convolve(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        return FORWARD[n_axes](input, weight, bias, stride, padding, dilation, groups)

    def convolve_transposed(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Tensor:
        return TRANSPOSED[n_axes](input, weight, bias, stride, padding, output_padding, groups, dilation)

    def weight_gradient(call: Call, signal: Tensor, layout: Layout, workspace: Workspace) -> GradientBlock:
        return _Convolution(call, n_axes, transposed).weight_gradient(signal, workspace)

    return Rule(
        convolve_transposed if transposed else convolve,
        "input",
        {"weight": weight_gradient, "bias": _summed_over_space},
        knows=lambda call: call["input"].ndim == n_axes + 2,
    )


def _summed_over_space(call: Call, signal: Tensor, layout: Layout, workspace: Workspace) -> GradientBlock:
    return DenseBlock(signal.flatten(2).sum(2))


# Entries of a weight for each of its positions, above which patches and a batched product were
# measured to form gradients faster than a grouped convolution (2 CPU cores, 64 examples: LeNet-5's
# and ResNet-20's layers are 2 to 10 times faster grouped, DCGAN's 3 to 6 times faster by patches).
PATCHES_FROM = 1000


class _Convolution:
    """One call of a convolution, its options as tuples."""

    def __init__(self, call: Call, n_axes: int, transposed: bool) -> None:
        self.n_axes = n_axes
        self.transposed = transposed
        self.input: Tensor = call["input"]
        self.weight: Tensor = call["weight"].detach()
        self.groups: int = call["groups"]
        self.stride = self._each(call["stride"])
        self.dilation = self._each(call["dilation"])
        self.output_padding = self._each(call["output_padding"]) if transposed else (0,) * n_axes
        self.kernel = tuple(self.weight.shape[2:])
        self.padding = self._padding(call["padding"])

    def _each(self, option: int | tuple[int, ...]) -> tuple[int, ...]:
        return (option,) * self.n_axes if isinstance(option, int) else tuple(option) * (self.n_axes // len(option))

    def _padding(self, option: int | str | tuple[int, ...]) -> tuple[int, ...]:
        if option == "valid":
            return (0,) * self.n_axes
        if option != "same":
            return self._each(option)  # type: ignore[arg-type]  # narrowed: not a str
        total = [d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True)]
        if any(t % 2 for t in total):  # pad on the right by one more, as torch does
            widths = [w for t in reversed(total) for w in (0, t % 2)]
            self.input = F.pad(self.input, widths)
        return tuple(t // 2 for t in total)

    def weight_gradient(self, signal: Tensor, workspace: Workspace) -> GradientBlock:
        """Return the gradients of the weight, by whichever way suits its shape."""
        if self.groups == 1 and not self.transposed and self._prefers_patches(signal):
            return self._by_patches(signal, workspace)
        return self._by_grouped_convolution(signal)

    def _prefers_patches(self, signal: Tensor) -> bool:
        n_positions = math.prod(signal.shape[2:])
        pointwise = all(k == 1 for k in self.kernel)
        return pointwise or signal.is_cuda or self.weight.numel() >= PATCHES_FROM * n_positions or n_positions == 1

    def _by_patches(self, signal: Tensor, workspace: Workspace) -> GradientBlock:
        """Multiply signals by the input patches that they came from."""
        widths = [w for p in reversed(self.padding) for w in (p, p)]
        patches = F.pad(self.input, widths) if any(widths) else self.input  # (B, d_in, *space)
        for axis, (k, s, d) in enumerate(zip(self.kernel, self.stride, self.dilation, strict=True)):
            patches = patches.unfold(2 + axis, d * (k - 1) + 1, s)[..., ::d]
        B, n_positions = len(signal), math.prod(signal.shape[2:])
        space, taps = range(2, 2 + self.n_axes), range(2 + self.n_axes, 2 + 2 * self.n_axes)
        g = signal.flatten(2)  # (B, d_out, S)
        if n_positions == 1:
            return OuterBlock(g[:, :, 0], patches.reshape(B, -1), workspace)
        a = patches.permute(0, *space, 1, *taps).reshape(B, n_positions, -1)  # (B, S, d_in taps)
        return formed_product(g, a, workspace)

    def _by_grouped_convolution(self, signal: Tensor) -> GradientBlock:
        """Let each example be a group of one large convolution, and take its weight's gradient."""
        B = len(signal)
        weight = self.weight.repeat(B, *(1 for _ in self.weight.shape[1:]))  # only its shape counts
        gradients = torch.ops.aten.convolution_backward(
            signal.reshape(1, -1, *signal.shape[2:]),
            self.input.reshape(1, -1, *self.input.shape[2:]),
            weight,
            None,
            self.stride,
            self.padding,
            self.dilation,
            self.transposed,
            self.output_padding,
            self.groups * B,
            [False, True, False],
        )[1]
        return DenseBlock(gradients.reshape(B, -1))
