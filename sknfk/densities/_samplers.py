"""Sampling from models that give a log-density alone, step by step, when asked for by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .._typing import Inputs
from ._base import SAMPLES_AT_ONCE, Density
from ._forward import one_tensor

__all__ = ["Autoregressive", "Langevin", "Sampled", "Sampler"]

LogDensity = Callable[[Tensor], Tensor]


class Sampler(ABC):
    """Base class of samplers: configuration that draws from a log-density."""

    __repr__ = Density.__repr__

    @abstractmethod
    def __call__(self, model: nn.Module, log_density: LogDensity, like: Tensor, rng: torch.Generator) -> Tensor:
        """Draw one example for each row of ``like``.

        Parameters
        ----------
        model : Module
            The fit's own copy.
        log_density : callable
            From examples (B, *input) to log-densities (B,), differentiable.
        like : Tensor of shape (B, *input)
            Of the shape, dtype and device of the samples; its values are not used.
        rng : torch.Generator
            On the CPU.

        Returns
        -------
        Tensor of shape (B, *input)
            Samples.
        """


@dataclass(frozen=True, repr=False)
class Langevin(Sampler):
    """Stochastic gradient Langevin dynamics from uniform noise.

    ``x <- clamp(x + step_size * clip(grad f(x)) + noise * e)``, e standard normal. With
    ``noise = sqrt(2 step_size)`` it is the unadjusted Langevin algorithm; models that
    were trained with short, colder chains [1]_ are sampled as they were trained.

    Parameters
    ----------
    n_steps : int, default=256
        Steps, one gradient of the model each.
    step_size : float, default=10.0
        What the gradient is multiplied by.
    noise : float, default=0.005
        Standard deviation of the noise of a step.
    clip : float, default=0.03
        Bound on each entry of the gradient.
    bounds : (float, float), default=(-1.0, 1.0)
        Least and largest value of an entry of x.

    References
    ----------
    .. [1] Du, Mordatch. "Implicit generation and modeling with energy based models",
       NeurIPS 2019.

    Examples
    --------
    >>> from sknfk.densities import Langevin, Output, Sampled
    >>> Sampled(Output(), Langevin(n_steps=60)).sampling
    'iterative'
    """

    n_steps: int = 256
    step_size: float = 10.0
    noise: float = 0.005
    clip: float = 0.03
    bounds: tuple[float, float] = (-1.0, 1.0)

    def __call__(self, model: nn.Module, log_density: LogDensity, like: Tensor, rng: torch.Generator) -> Tensor:
        """Run one chain for each row of ``like``.

        Parameters
        ----------
        model : Module
            Not used beside the log-density.
        log_density : callable
            Differentiable.
        like : Tensor of shape (B, *input)
            Of the samples' shape.
        rng : torch.Generator
            On the CPU.

        Returns
        -------
        Tensor of shape (B, *input)
            Where the chains end.
        """
        low, high = self.bounds
        x = low + (high - low) * torch.rand(like.shape, generator=rng, dtype=torch.float64).to(like)
        for _ in range(self.n_steps):
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(log_density(x).sum(), x)
            normal = torch.randn(like.shape, generator=rng, dtype=torch.float64).to(like)
            step = self.step_size * gradient.clamp(-self.clip, self.clip)
            x = (x.detach() + step + self.noise * normal).clamp(low, high)
        return x


@dataclass(frozen=True, repr=False)
class Autoregressive(Sampler):
    """One entry after the other, each from its distribution given those before it.

    Cost: as many forward passes as an example has entries.

    Parameters
    ----------
    logits : callable
        ``(model, x) -> (B, n_levels, *input)``, or any shape with as many entries:
        logits of the value of each entry, which depend on the entries before it in
        row-major order alone.

    Examples
    --------
    >>> import torch
    >>> from sknfk.densities import Autoregressive
    >>> sampler = Autoregressive(lambda model, x: torch.tensor([[[-99.0], [99.0]]]).expand(len(x), 2, 3))
    >>> sampler(torch.nn.Identity(), None, torch.zeros(1, 3), torch.Generator())
    tensor([[1., 1., 1.]])
    """

    logits: Callable[[nn.Module, Tensor], Tensor]

    def __call__(self, model: nn.Module, log_density: LogDensity, like: Tensor, rng: torch.Generator) -> Tensor:
        """Fill the entries of each row in their order.

        Parameters
        ----------
        model : Module
            What ``logits`` is called with.
        log_density : callable
            Not used.
        like : Tensor of shape (B, *input)
            Of the samples' shape.
        rng : torch.Generator
            On the CPU.

        Returns
        -------
        Tensor of shape (B, *input)
            Samples, with values 0 to n_levels - 1.
        """
        x = torch.zeros_like(like)
        entries = x.view(len(x), -1)
        for index in range(entries.shape[1]):
            with torch.no_grad():
                logits = self.logits(model, x)
            logits = logits.reshape(len(x), -1, entries.shape[1])[:, :, index]  # (B, n_levels)
            drawn = torch.multinomial(logits.double().softmax(1).cpu(), 1, generator=rng)[:, 0]
            entries[:, index] = drawn.to(entries)
        return x


@dataclass(frozen=True, repr=False, eq=False)
class Sampled(Density):
    """A density with a sampler, so that ``statistics="model"`` can be asked for.

    Statistics are over its samples only with ``statistics="model"``: a chain costs many
    passes of the model, and "auto" stays with the data.

    Parameters
    ----------
    density : Density
        What the model's output means.
    sampler : Sampler
        Draws from it.
    like : Tensor of shape (1, *input) or None, default=None
        Of a sample's shape, dtype and device; ``fit`` takes a row of X.

    Examples
    --------
    >>> from sknfk.densities import Classifier, Langevin, Sampled
    >>> Sampled(Classifier(), Langevin(n_steps=100))
    Sampled(density=Classifier(), sampler=Langevin(n_steps=100))
    """

    density: Density
    sampler: Sampler
    like: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse what neither has a log-density nor samples."""
        for name, value, kind in (("density", self.density, Density), ("sampler", self.sampler, Sampler)):
            if not isinstance(value, kind):
                got = value.__name__ if isinstance(value, type) else type(value).__name__
                raise TypeError(
                    f"`{name}` must be a {kind.__name__}. Got {got}; pass an instance of one of those in "
                    "`sknfk.densities`, or of a subclass of your own."
                )

    @property
    def sampling(self) -> str | None:
        """Say "iterative": samples cost many passes."""
        return "iterative"

    def prepared(self, model: nn.Module, x: Inputs, rng: torch.Generator) -> Sampled:
        """Prepare the density.

        Parameters
        ----------
        model : Module
            The fit's own copy.
        x : Tensor of shape (B, *input)
            A few rows.
        rng : torch.Generator
            On the CPU.

        Returns
        -------
        Sampled
            Ready.
        """
        return replace(
            self, density=self.density.prepared(model, x, rng), like=one_tensor(x, self)[:1].detach().clone()
        )

    def log_density(self, model: nn.Module, x: Inputs) -> Tensor:
        """Return the density's own log-density.

        Parameters
        ----------
        model : Module
            The model.
        x : Tensor of shape (B, *input)
            Rows.

        Returns
        -------
        Tensor of shape (B,)
            Log-densities.
        """
        return self.density.log_density(model, x)

    def sample(self, model: nn.Module, n_samples: int, rng: torch.Generator) -> Tensor:
        """Draw samples, a few at once.

        Parameters
        ----------
        model : Module
            The fit's own copy.
        n_samples : int
            How many.
        rng : torch.Generator
            On the CPU.

        Returns
        -------
        Tensor of shape (n_samples, *input)
            Samples.
        """
        if self.like is None:
            raise ValueError("`Sampled` must be prepared before it samples. Use what its method `prepared` returns.")
        like = self.like.to(next(model.parameters()).device)
        sizes = [min(SAMPLES_AT_ONCE, n_samples - start) for start in range(0, n_samples, SAMPLES_AT_ONCE)]
        return torch.cat(
            [
                self.sampler(model, lambda x: self.log_density(model, x), like.repeat(n, *(1,) * (like.ndim - 1)), rng)
                for n in sizes
            ]
        )

    def parameter_groups(self, model: nn.Module, x: Inputs) -> Mapping[str, Sequence[str]]:
        """Return the density's own groups.

        Parameters
        ----------
        model : Module
            The fit's own copy.
        x : Tensor of shape (B, *input)
            A few rows.

        Returns
        -------
        mapping of str to sequence of str
            Names of parameters.
        """
        return self.density.parameter_groups(model, x)
