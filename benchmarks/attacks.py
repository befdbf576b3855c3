"""Attacks on classifiers of images in [0, 1], within eps of each pixel.

Each gives an upper bound on the accuracy under attack: a stronger attack may find more.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Classify = Callable[[Tensor], Tensor]  # images (B, ...) -> logits (B, C)
N_STEPS = 20


def pgd(classify: Classify, x: Tensor, y: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """Projected gradient ascent of the loss from a random start: 20 steps of 2.5 eps / 20 (Madry et al. 2018)."""
    best = within((x + eps * (2 * torch.rand(x.shape, generator=generator) - 1)), x, eps)
    attacked = best
    fooled = torch.zeros(len(x), dtype=torch.bool)
    for _ in range(N_STEPS):
        attacked = attacked.detach().requires_grad_()
        logits = classify(attacked)
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), attacked)
        best, fooled = keep_fooled(best, fooled, attacked.detach(), logits, y)
        attacked = within(attacked + 2.5 * eps / N_STEPS * gradient.sign(), x, eps)
    with torch.no_grad():
        return keep_fooled(best, fooled, attacked.detach(), classify(attacked), y)[0]


def keep_fooled(best: Tensor, fooled: Tensor, attacked: Tensor, logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Images that are wrong already stay; others take the newest."""
    return torch.where(fooled[:, None, None, None], best, attacked), fooled | (logits.argmax(1) != y)


@torch.no_grad()
def squares(classify: Classify, x: Tensor, y: Tensor, eps: float, generator: torch.Generator, n_queries: int) -> Tensor:
    """Random search that asks for logits alone: squares of plus or minus eps, kept where the margin falls.

    Stripes first, then squares that shrink (Andriushchenko et al. 2020, simplified).
    """
    B, channels, height, width = x.shape

    def signs(*shape: int) -> Tensor:
        return 2.0 * torch.randint(0, 2, shape, generator=generator) - 1

    attacked = within(x + eps * signs(B, channels, 1, width), x, eps)
    lowest = margin(classify(attacked), y)
    for query in range(n_queries):
        side = max(1, round(height * (0.5 * (1 - query / n_queries)) ** 1.5))
        rows = torch.randint(0, height - side + 1, (B,), generator=generator)
        columns = torch.randint(0, width - side + 1, (B,), generator=generator)
        tall, wide = torch.arange(height), torch.arange(width)
        inside = ((tall >= rows[:, None]) & (tall < rows[:, None] + side))[:, None, :, None]
        inside = inside & ((wide >= columns[:, None]) & (wide < columns[:, None] + side))[:, None, None, :]
        tried = torch.where(inside, within(x + eps * signs(B, channels, 1, 1), x, eps), attacked)
        found = margin(classify(tried), y)
        better = found < lowest
        attacked = torch.where(better[:, None, None, None], tried, attacked)
        lowest = torch.where(better, found, lowest)
    return attacked


def within(attacked: Tensor, x: Tensor, eps: float) -> Tensor:
    return torch.clamp(torch.minimum(torch.maximum(attacked, x - eps), x + eps), 0, 1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """The logit of y minus the largest of the others, (B,)."""
    own = logits.gather(1, y[:, None])[:, 0]
    return own - logits.scatter(1, y[:, None], -torch.inf).amax(1)
