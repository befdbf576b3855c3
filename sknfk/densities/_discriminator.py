"""Generative adversarial networks: the discriminator is minus the energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .._torch import evaluation_copy
from .._typing import Inputs
from ._base import SAMPLES_AT_ONCE, Density
from ._forward import forward_scalar
from ._probabilities import BeforeSigmoid, sigmoids_before_the_output

__all__ = ["Discriminator"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

Latent = str | Callable[[int, torch.Generator], Tensor]


@dataclass(frozen=True, repr=False, eq=False)
class Discriminator(Density):
    """log p(x) = D(x) + const: a GAN's discriminator as minus the energy.

    With a generator, the mean score and the Fisher information are expectations
    over its samples, the model's own distribution (section 3.1.1 of [1]_). A
    discriminator that ends in a sigmoid is read before it, at its logit.

    Parameters
    ----------
    generator : Module or None, default=None
        Latent variables to examples. Used in eval mode, copied in ``fit``, shared
        by clones, hashed by its weights. None takes statistics from the data.
    latent : {"normal", "uniform"} or callable, default="normal"
        Distribution of the latent variables: standard normal, uniform in [-1, 1),
        or a callable ``(n, rng) -> (n, ...)`` that draws from a ``torch.Generator``.
    latent_dim : int, tuple of int or None, default=None
        Shape of one latent variable; None reads it off the generator's first layer.
    n_sigmoids : int, default=0
        Calls of sigmoid in a pass of which the last is the model's output; ``fit``
        counts them.

    References
    ----------
    .. [1] Zhang, Zhai, Littwin, Susskind. "Learning Representation from Neural
       Fisher Kernel with Low-rank Approximation", ICLR 2022.

    Examples
    --------
    >>> import torch
    >>> from sknfk.densities import Discriminator
    >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Sigmoid())
    >>> x = torch.tensor([[3.0], [-40.0]])
    >>> Discriminator().prepared(model, x, torch.Generator()).log_density(model, x)
    tensor([  3., -40.])
    """

    generator: nn.Module | None = None
    latent: Latent = "normal"
    latent_dim: int | tuple[int, ...] | None = None
    n_sigmoids: int = 0

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.generator is not None and not isinstance(self.generator, nn.Module):
            raise TypeError(
                f"`generator` must be a torch module. Got {type(self.generator).__name__}; pass the network itself."
            )
        if self.latent not in ("normal", "uniform") and not callable(self.latent):
            raise ValueError(f"`latent` must be 'normal', 'uniform' or a callable (n, rng). Got {self.latent!r}.")

    @property
    def sampling(self) -> str | None:
        """Say "exact" where there is a generator."""
        return None if self.generator is None else "exact"

    def prepared(self, model: nn.Module, x: Inputs, rng: torch.Generator) -> Discriminator:
        """Copy the generator; find the latent's shape and a sigmoid at the end.

        Parameters
        ----------
        model : Module
            The discriminator.
        x : Tensor of shape (B, *input)
            A few rows.
        rng : torch.Generator
            Not used.

        Returns
        -------
        Discriminator
            Ready.
        """
        n_sigmoids = sigmoids_before_the_output(model, x)
        if self.generator is None:
            return replace(self, n_sigmoids=n_sigmoids)
        parameter = next(model.parameters())
        generator = evaluation_copy(self.generator, parameter.device, parameter.dtype)
        latent_dim = self.latent_dim
        if latent_dim is None and isinstance(self.latent, str):
            latent_dim = _latent_dim(generator)
        return replace(self, generator=generator, latent_dim=latent_dim, n_sigmoids=n_sigmoids)

    def log_density(self, model: nn.Module, x: Inputs) -> Tensor:
        """Return the discriminator's logit.

        Parameters
        ----------
        model : Module
            Returns one scalar per row, (B,) or (B, 1).
        x : Tensor of shape (B, *input)
            Rows.

        Returns
        -------
        Tensor of shape (B,)
            Minus the energies.
        """
        if self.n_sigmoids == 0:
            return forward_scalar(model, x)
        with BeforeSigmoid(self.n_sigmoids):
            return forward_scalar(model, x)

    def sample(self, model: nn.Module, n_samples: int, rng: torch.Generator) -> Tensor:
        """Draw latent variables and generate examples.

        Parameters
        ----------
        model : Module
            Not used: the generator is the model's distribution.
        n_samples : int
            How many.
        rng : torch.Generator
            On the CPU.

        Returns
        -------
        Tensor of shape (n_samples, *input)
            Examples.
        """
        if self.generator is None:
            return super().sample(model, n_samples, rng)
        own = next(self.generator.parameters())
        latents = self._latents(n_samples, rng)
        with torch.no_grad():
            parts = [self.generator(part.to(own)) for part in latents.split(SAMPLES_AT_ONCE)]
        return torch.cat(parts)

    def _latents(self, n_samples: int, rng: torch.Generator) -> Tensor:
        if callable(self.latent):
            drawn = self.latent(n_samples, rng)
            if not isinstance(drawn, Tensor) or len(drawn) != n_samples:
                raise ValueError(
                    f"`latent` must return {n_samples} latent variables, a tensor (n, ...). Got {_shape(drawn)}; "
                    "draw as many as its first argument says."
                )
            return drawn
        assert self.latent_dim is not None
        shape = (self.latent_dim,) if isinstance(self.latent_dim, int) else tuple(self.latent_dim)
        if self.latent == "normal":
            return torch.randn(n_samples, *shape, generator=rng, dtype=torch.float64)
        return 2 * torch.rand(n_samples, *shape, generator=rng, dtype=torch.float64) - 1


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _latent_dim(generator: nn.Module) -> tuple[int, ...]:
    """Read the shape of a latent variable off the first layer with weights."""
    for layer in generator.modules():
        if isinstance(layer, nn.Linear):
            return (layer.in_features,)
        if isinstance(layer, _TRANSPOSED):
            return (int(layer.in_channels), *(1,) * len(layer.kernel_size))
        if next(layer.parameters(recurse=False), None) is not None:
            break
    raise ValueError(
        "`latent_dim` must be given where the generator's first layer is neither linear nor a transposed convolution. "
        f"Got None for {type(generator).__name__}; pass the shape of one latent variable."
    )
