"""Gram matrices by products of small ones, where each example uses a weight once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ..gradients import GradientBlock, JoinedBlock, OuterBlock

__all__ = ["product_gram", "rank_one_factors"]

# What rounding may leave of a scale that was made as an outer product, relative to its largest entry.
SEPARABLE_RTOL = 1e-6

CHUNK = 2**14  # columns of a float64 copy


def rank_one_factors(matrix: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return u and v with matrix = u v^T, or None where there are none.

    Parameters
    ----------
    matrix : Tensor of shape (d_out, d_in)
        A layer's scale.

    Returns
    -------
    tuple of Tensor or None
        Of shapes (d_out,) and (d_in,).
    """
    row, column = divmod(int(matrix.abs().argmax()), matrix.shape[1])
    largest = matrix[row, column]
    if float(largest) == 0.0:
        return torch.zeros_like(matrix[:, 0]), torch.zeros_like(matrix[0])
    u, v = matrix[:, column], matrix[row] / largest
    is_product = bool(((matrix - torch.outer(u, v)).abs() <= SEPARABLE_RTOL * largest.abs()).all())
    return (u, v) if is_product else None


def product_gram(blocks: Iterable[GradientBlock], mean_score: Tensor, scale: Tensor, max_bytes: int) -> Tensor | None:
    """Return V V^T from the factors of the gradients, one pass and no (N, P) work.

    For a weight that each example uses once, g_i a_i^T and g_j a_j^T scaled by u v^T
    have the inner product ``sum (u g_i)(u g_j) sum (v a_i)(v a_j)``: two small Gram
    matrices, multiplied entry by entry. Biases and other small parts are formed.
    ``V V^T = K - k 1^T - 1 k^T + z^T D^2 z`` with ``K = J D^2 J^T`` and ``k = J D^2 z``.

    Cost: one pass, and N^2 (d_in + d_out) operations for each layer in place of
    N^2 d_in d_out.

    Parameters
    ----------
    blocks : iterable of GradientBlock
        The gradients of each batch.
    mean_score : Tensor of shape (P,)
        z.
    scale : Tensor of shape (P,)
        d.
    max_bytes : int
        What the factors of all rows may take.

    Returns
    -------
    Tensor of shape (N, N) or None
        In float64; None where a part has no factors and is too large to be kept, or
        the scale of a layer is no outer product.
    """
    kept: dict[tuple[int, int], list[tuple[Tensor, ...]]] = {}
    n_bytes = 0
    for block in blocks:
        if not isinstance(block, JoinedBlock):
            return None
        for start, stop, part in block.parts:
            factors = _factors(part, scale[start:stop])
            if factors is None:
                return None
            n_bytes += sum(f.numel() * f.element_size() for f in factors)
            if n_bytes > max_bytes:
                return None
            kept.setdefault((start, stop), []).append(factors)
    return _assembled(kept, mean_score.double(), scale.double())


def _factors(part: GradientBlock, scale: Tensor) -> tuple[Tensor, ...] | None:
    """Return what is kept of a part: signals and inputs, or the rows themselves."""
    if isinstance(part, OuterBlock):
        shape = (part.signals.shape[1], part.inputs.shape[1])
        return None if rank_one_factors(scale.view(shape)) is None else (part.signals.clone(), part.inputs.clone())
    return (part.rows().clone(),)


def _assembled(kept: dict[tuple[int, int], list[tuple[Tensor, ...]]], mean_score: Tensor, scale: Tensor) -> Tensor:
    kernel, towards_mean = None, None
    for start, stop in sorted(kept):
        factors = [torch.cat(f) for f in zip(*kept.pop((start, stop)), strict=True)]
        d, z = scale[start:stop], mean_score[start:stop]
        part, of_mean = _of_layer(factors, d, d.square() * z)
        kernel = part if kernel is None else kernel.add_(part)
        towards_mean = of_mean if towards_mean is None else towards_mean.add_(of_mean)
    assert kernel is not None and towards_mean is not None  # a model has parameters
    kernel -= towards_mean[:, None] + towards_mean
    return kernel.add_((scale * mean_score).square().sum())


def _of_layer(factors: Sequence[Tensor], d: Tensor, weighted_mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return J D^2 J^T, (N, N), and J D^2 z, (N,), of one part."""
    if len(factors) == 1:
        return _of_formed(factors[0], d, weighted_mean)
    g, a = (f.double() for f in factors)  # (N, d_out), (N, d_in)
    shape = (g.shape[1], a.shape[1])
    found = rank_one_factors(d.view(shape))
    assert found is not None  # it was one when the factors were kept
    u, v = found
    gram = ((g * u) @ (g * u).T).mul_((a * v) @ (a * v).T)
    return gram, ((a @ weighted_mean.view(shape).T) * g).sum(1)


def _of_formed(rows: Tensor, d: Tensor, weighted_mean: Tensor) -> tuple[Tensor, Tensor]:
    """Do the same with formed gradients, without a float64 copy of them all."""
    gram = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    towards_mean = torch.zeros_like(gram[0])
    for chunk, scale, mean in zip(rows.split(CHUNK, dim=1), d.split(CHUNK), weighted_mean.split(CHUNK), strict=True):
        wide = chunk.double()
        towards_mean += wide @ mean
        scaled = wide * scale
        gram.addmm_(scaled, scaled.T)
    return gram, towards_mean
