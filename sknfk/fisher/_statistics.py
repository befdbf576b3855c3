"""The mean score and the diagonal Fisher information, in one pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .._torch import first_nonfinite
from ..batches import Batches
from ..gradients import Engine, GradientBlock, ParameterSpace, nonfinite_gradient
from ._cache import GradientCache
from ._start import RangeSample
from ._visits import FormedRows, Unwatched, Watch, visit

__all__ = ["DEAD_RTOL", "FisherStatistics", "Moments", "estimate_moments", "estimate_statistics"]

# Var(J) of a constant gradient is rounding noise, about 1e-16 of its second moment in
# float64 sums; a parameter below this share of it carries no information.
DEAD_RTOL = 1e-12

CHUNK = 2**22  # entries of a vector that are worked on at once


@dataclass(frozen=True)
class Moments:
    """First and second moments of the gradients of some rows, in float64.

    Parameters
    ----------
    mean : Tensor of shape (P,)
        Mean of J.
    mean_square : Tensor of shape (P,)
        Mean of J^2.
    n_rows : int
        How many rows they are means over.
    """

    mean: Tensor
    mean_square: Tensor
    n_rows: int

    def shifted(self, pivot: Tensor) -> Moments:
        """Return the moments of the same gradients with ``pivot`` added to each."""
        mean_square = self.mean_square + 2 * pivot * self.mean + pivot.square()
        return Moments(self.mean + pivot, mean_square, self.n_rows)


@dataclass(frozen=True)
class FisherStatistics:
    """Where Fisher vectors are centred and how they are scaled.

    Parameters
    ----------
    mean_score : Tensor of shape (P,)
        z, zero where scores are not centred; float64.
    information : Tensor of shape (P,)
        Diagonal Fisher information, I = mean of (J - z)^2; exactly 0 where dead.
    """

    mean_score: Tensor
    information: Tensor

    @property
    def dead_fraction(self) -> float:
        """Share of the parameters whose information is rounding noise."""
        return float((self.information == 0).double().mean())

    def scale(self, fisher: str, damping: float, parameters: ParameterSpace | None = None) -> Tensor:
        """Return D, what the scores are multiplied by, (P,) in float64.

        ``"diag"`` is ``1 / sqrt(I + damping * mean(I))``, 0 for dead parameters;
        ``"factored"`` takes the rank-one information of each layer in its place (the
        means over rows and over columns, as Shazeer and Stern's Adafactor, 2018), so
        that each layer's D is an outer product; ``"identity"`` is 1. ``parameters``
        gives the layers' shapes to ``"factored"``.
        """
        if fisher == "identity":
            return torch.ones_like(self.information)
        added = damping * self.information.mean()
        if fisher == "factored":
            assert parameters is not None
            layers = parameters.split(self.information).values()
            return torch.cat([_factored_scale(layer, added).flatten() for layer in layers])
        return _inverse_root(self.information, added)

    def total_variance(self, moments: Moments, scale: Tensor) -> float:
        """Return the mean of ``||V_x||^2`` over the rows that the moments are of."""
        total = 0.0
        for z, mean, mean_square, d in _chunks(self.mean_score, moments.mean, moments.mean_square, scale):
            deviation = mean_square - 2 * z * mean + z.square()
            total += float((d.square() * deviation.clamp_min(0)).sum())
        return total

    def mean_shift(self, moments: Moments, scale: Tensor) -> float:
        """Return the share of the total variance that is the mean vector's."""
        total = self.total_variance(moments, scale)
        shift = sum(
            float((d * (mean - z)).square().sum()) for z, mean, d in _chunks(self.mean_score, moments.mean, scale)
        )
        return min(1.0, shift / total) if total > 0 else 0.0


def _inverse_root(information: Tensor, added: Tensor) -> Tensor:
    return (information + added).rsqrt_().masked_fill_(information == 0, 0.0)


def _chunks(*vectors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield vectors of P numbers in pieces: their temporaries would be the largest numbers of a sketch's fit."""
    return zip(*(vector.split(CHUNK) for vector in vectors), strict=True)


def _factored_scale(information: Tensor, added: Tensor) -> Tensor:
    """Return the scale of one layer, (d_out, ...), from I of rank one: r c / m.

    With r + added, c + added and m + added it stays an outer product, and equals
    that of "diag" where the information is the same everywhere.
    """
    if information.ndim < 2:
        return _inverse_root(information, added)
    matrix = information.flatten(1)  # (d_out, d_in)
    rows, columns = matrix.mean(1), matrix.mean(0)
    of_layer = (matrix.mean() + added).sqrt()
    return torch.outer(_inverse_root(rows, added), _inverse_root(columns, added)) * of_layer


def estimate_moments(
    engine: Engine,
    batches: Batches,
    parameters: ParameterSpace,
    sample: RangeSample | None = None,
    cache: GradientCache | None = None,
    watch: Watch | None = None,
) -> Moments:
    """Estimate the gradients' first and second moments.

    Where processes hold rows each of its own, they are of all their rows. Cost: one pass.

    Parameters
    ----------
    engine : Engine
        Gives the gradients of a batch.
    batches : Batches
        The rows.
    parameters : ParameterSpace
        Names the layer of a gradient that is not finite.
    sample : RangeSample or None, default=None
        A solver's first block, gathered in the same pass.
    cache : GradientCache or None, default=None
        Where the gradients of the same rows are kept, or will be from this pass on.
    watch : Watch or None, default=None
        Sees the pass go by.

    Returns
    -------
    Moments
        In float64, on the batches' device.

    Raises
    ------
    ValueError
        If a gradient is NaN or infinite; it names the parameter.
    """
    total = torch.zeros(parameters.n_parameters, dtype=torch.float64, device=batches.device)
    total_square = torch.zeros_like(total)

    def add(block: GradientBlock) -> None:
        total.add_(block.sum())
        total_square.add_(block.squared_sum())
        if sample is not None:
            sample.add(block)

    sums = {"total": total, "total_square": total_square, **({} if sample is None else sample.sums)}
    visit(FormedRows(engine, batches) if cache is None else cache, sums, add, watch or Unwatched())
    bad = first_nonfinite(total_square)
    if bad is not None:
        raise nonfinite_gradient(parameters.name_of(bad))
    n_rows = batches.n_rows_in_all
    moments = Moments(total.div_(n_rows), total_square.div_(n_rows), n_rows)
    return moments if cache is None else moments.shifted(cache.pivot.double())


def estimate_statistics(moments: Moments, *, center: bool = True) -> FisherStatistics:
    """Return the mean score and diagonal information of the reference rows.

    The expectation over the model of section 3.1 of the NFK paper is the mean over
    the rows that the moments were taken of.

    Parameters
    ----------
    moments : Moments
        Of the reference rows.
    center : bool, default=True
        Whether scores are centred; if not, z = 0.

    Returns
    -------
    FisherStatistics
        With dead parameters' information set to exactly 0.
    """
    mean_score = moments.mean if center else torch.zeros_like(moments.mean)
    information = mean_score.square().neg_().add_(moments.mean_square)
    live = information > DEAD_RTOL * moments.mean_square
    return FisherStatistics(mean_score, information.mul_(live))
