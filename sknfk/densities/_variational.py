"""Variational autoencoders: a bound on log p(x) with noise that all rows share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .._typing import Inputs
from ._base import SAMPLES_AT_ONCE, Density, called, row_values
from ._forward import one_tensor

__all__ = ["Variational"]

# (the decoder's output for rows (R, ...), rows (R, *input)) -> log p(x | h), (R,)
Likelihood = Callable[[Any, Tensor], Tensor]
Method = str | Callable[..., Any]

_LOG_2_PI = math.log(2 * math.pi)


@dataclass(frozen=True, repr=False, eq=False)
class Variational(Density):
    """log p(x) bounded by a variational autoencoder with a standard normal prior.

    The evidence lower bound is ``mean_s log p(x | h_s) - KL(q(h | x) || p(h))``
    with ``h_s = mean(x) + std(x) e_s``: the divergence in closed form, the noise
    e_s one bank of antithetic pairs, drawn once in ``fit``, shared by all rows and
    kept. Fresh noise in each call would make the rows of J another matrix at every
    product. ``bound="importance"`` is the importance-weighted bound [2]_ of the same
    draws, ``log mean_s p(x, h_s) / q(h_s | x)``.

    The score of log p(x) concerns the generative parameters: pass
    ``parameters="decoder"`` to the estimator for them alone, "encoder" for the
    others. A model that gives its bound itself needs one argument:
    ``Variational(elbo="name of the method")``.

    Parameters
    ----------
    encode : str or callable, default="encode"
        A method of the model, ``x -> (mean, log_variance)``, each (B, ...); or a
        callable ``(model, x)``.
    decode : str or callable, default="decode"
        A method of the model, from latent variables to the parameters of the
        likelihood; or a callable ``(model, h)``.
    likelihood : {"bernoulli", "gaussian"} or callable, default="bernoulli"
        "bernoulli": decode returns logits. "gaussian": it returns the mean, of unit
        variance, or (mean, log_variance). A callable takes what decode returns and
        rows of X, and returns log p(x | h), one for each row.
    bound : {"elbo", "importance"}, default="elbo"
        Which bound.
    n_draws : int, default=16
        Noise draws, an even number: half of them, and their negatives.
    noise : Tensor of shape (n_draws, *latent) or None, default=None
        The bank itself; None draws it in ``fit``.
    elbo : str, callable or None, default=None
        A method of the model that gives the bound itself, or a callable ``(model, x)
        -> (B,)``; it must not draw noise. Nothing else is then used.

    References
    ----------
    .. [1] Kingma, Welling. "Auto-encoding variational Bayes", ICLR 2014.
    .. [2] Burda, Grosse, Salakhutdinov. "Importance weighted autoencoders", ICLR
       2016.

    Examples
    --------
    >>> import torch
    >>> from sknfk.densities import Variational
    >>> def encode(model, x):
    ...     return x[:, :1], torch.zeros_like(x[:, :1])
    >>> density = Variational(encode, lambda model, h: 0 * h, "gaussian")
    >>> x = torch.zeros(2, 1)
    >>> density.prepared(torch.nn.Identity(), x, torch.Generator()).log_density(torch.nn.Identity(), x)
    tensor([-0.9189, -0.9189])
    """

    encode: Method = "encode"
    decode: Method = "decode"
    likelihood: str | Likelihood = "bernoulli"
    bound: str = "elbo"
    n_draws: int = 16
    noise: Tensor | None = None
    elbo: Method | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.likelihood not in _LIKELIHOODS and not callable(self.likelihood):
            raise ValueError(
                f"`likelihood` must be 'bernoulli', 'gaussian' or a callable (parameters, x). Got {self.likelihood!r}."
            )
        if self.bound not in ("elbo", "importance"):
            raise ValueError(f"`bound` must be 'elbo' or 'importance'. Got {self.bound!r}.")
        if not (isinstance(self.n_draws, Integral) and self.n_draws >= 2 and self.n_draws % 2 == 0):
            raise ValueError(
                f"`n_draws` must be an even integer, for antithetic pairs. Got {self.n_draws!r}; the default is 16."
            )

    @property
    def sampling(self) -> str | None:
        """Say "exact" where the likelihood is known: the prior, then the likelihood."""
        return "exact" if isinstance(self.likelihood, str) and self.elbo is None else None

    def prepared(self, model: nn.Module, x: Inputs, rng: torch.Generator) -> Variational:
        """Draw the bank of noise.

        Parameters
        ----------
        model : Module
            The autoencoder; asked for the shape of a latent variable.
        x : Tensor of shape (B, *input)
            A few rows.
        rng : torch.Generator
            On the CPU.

        Returns
        -------
        Variational
            With its noise.
        """
        if self.elbo is not None or self.noise is not None:
            return self
        mean, _ = self._encoded(model, one_tensor(x, self))
        half = torch.randn(self.n_draws // 2, *mean.shape[1:], generator=rng, dtype=torch.float64)
        return replace(self, noise=torch.cat([half, -half]))

    def log_density(self, model: nn.Module, x: Inputs) -> Tensor:
        """Return the bound.

        Parameters
        ----------
        model : Module
            The autoencoder.
        x : Tensor of shape (B, *input)
            Rows.

        Returns
        -------
        Tensor of shape (B,)
            Bounds on log p(x), in nats.
        """
        if self.elbo is not None:
            return row_values(called(self.elbo, model, x), x, f"`elbo` {self.elbo!r}")
        if self.noise is None:
            raise ValueError(
                "`Variational` must be prepared: its noise is drawn once. Use what its method `prepared` returns."
            )
        x = one_tensor(x, self)
        mean, log_variance = self._encoded(model, x)
        noise = self.noise.to(mean)  # (S, *latent)
        std = torch.exp(0.5 * log_variance)
        h = mean[:, None] + std[:, None] * noise  # (B, S, *latent)
        # Draws of an example lie side by side, so that each is one more position of it.
        log_likelihood = self._log_likelihood(self._decoded(model, h.flatten(0, 1)), x.repeat_interleave(len(noise), 0))
        log_likelihood = log_likelihood.view(len(x), -1)  # (B, S)
        if self.bound == "elbo":
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).flatten(1).sum(1)
            return log_likelihood.mean(1) - divergence
        # log p(h) - log q(h | x); both have the constant -d/2 log 2 pi.
        log_prior = -0.5 * h.flatten(2).square().sum(2)  # (B, S)
        log_posterior = -0.5 * (noise.flatten(1).square().sum(1) + log_variance.flatten(1).sum(1)[:, None])
        return torch.logsumexp(log_likelihood + log_prior - log_posterior, dim=1) - math.log(len(noise))

    def sample(self, model: nn.Module, n_samples: int, rng: torch.Generator) -> Tensor:
        """Draw latent variables from the prior and examples from their likelihood.

        Parameters
        ----------
        model : Module
            The autoencoder.
        n_samples : int
            How many.
        rng : torch.Generator
            On the CPU.

        Returns
        -------
        Tensor of shape (n_samples, *input)
            Examples; 0 and 1 for "bernoulli".
        """
        if self.sampling is None or self.noise is None:
            return super().sample(model, n_samples, rng)
        own = next(model.parameters())
        latents = torch.randn(n_samples, *self.noise.shape[1:], generator=rng, dtype=torch.float64)
        with torch.no_grad():
            parts = [self._drawn(self._decoded(model, part.to(own)), rng) for part in latents.split(SAMPLES_AT_ONCE)]
        return torch.cat(parts)

    def parameter_groups(self, model: nn.Module, x: Inputs) -> Mapping[str, Sequence[str]]:
        """Return the names of the encoder's and the decoder's parameters.

        Parameters
        ----------
        model : Module
            The autoencoder.
        x : Tensor of shape (B, *input)
            A few rows.

        Returns
        -------
        mapping of str to sequence of str
            "decoder": what decode depends on; "encoder": what encode does.
        """
        if self.elbo is not None:
            return {}
        x = one_tensor(x, self)
        with torch.no_grad():
            h = self._encoded(model, x)[0]
        return {
            "decoder": _reached(model, lambda inner: self._decoded(inner, h)),
            "encoder": _reached(model, lambda inner: self._encoded(inner, x)),
        }

    def _encoded(self, model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        encoded = called(self.encode, model, x)
        if not isinstance(encoded, tuple | list) or len(encoded) != 2:
            raise ValueError(
                f"`encode` must return a pair (mean, log_variance), each (B, ...). Got {type(encoded).__name__}; "
                "pass a callable (model, x) that returns the pair."
            )
        return encoded[0], encoded[1]

    def _decoded(self, model: nn.Module, h: Tensor) -> Any:
        return called(self.decode, model, h)

    def _log_likelihood(self, decoded: Any, x: Tensor) -> Tensor:
        likelihood = _LIKELIHOODS[self.likelihood] if isinstance(self.likelihood, str) else self.likelihood
        return row_values(likelihood(decoded, x), x, "`likelihood`")

    def _drawn(self, decoded: Any, rng: torch.Generator) -> Tensor:
        if self.likelihood == "bernoulli":
            uniform = torch.rand(decoded.shape, generator=rng, dtype=torch.float64)
            return (uniform.to(decoded) < torch.sigmoid(decoded)).to(decoded.dtype)
        mean, log_variance = _gaussian_parameters(decoded)
        normal = torch.randn(mean.shape, generator=rng, dtype=torch.float64).to(mean)
        return mean + torch.exp(0.5 * log_variance) * normal


def _bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """Return sum of x log p + (1 - x) log(1 - p), for grey values in [0, 1] too."""
    logits = logits.flatten(1)
    return (logits * x.flatten(1) - F.softplus(logits)).sum(1)


def _gaussian(decoded: Any, x: Tensor) -> Tensor:
    mean, log_variance = _gaussian_parameters(decoded)
    error = (x.flatten(1) - mean.flatten(1)).square() * torch.exp(-log_variance.flatten(1))
    return -0.5 * (error + log_variance.flatten(1) + _LOG_2_PI).sum(1)


def _gaussian_parameters(decoded: Any) -> tuple[Tensor, Tensor]:
    if isinstance(decoded, Tensor):
        return decoded, torch.zeros_like(decoded)
    return decoded[0], decoded[1]


_LIKELIHOODS: dict[Any, Likelihood] = {"bernoulli": _bernoulli, "gaussian": _gaussian}


class _Part(nn.Module):
    """A function of a model as a module, so that its parameters can be substituted."""

    def __init__(self, model: nn.Module, function: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self) -> Any:
        return self.function(self.model)


def _reached(model: nn.Module, function: Callable[[nn.Module], Any]) -> list[str]:
    """Return the names of the parameters that a function of the model depends on."""
    values = {name: p.detach().requires_grad_() for name, p in model.named_parameters() if p.is_floating_point()}

    def differentiated(inner: nn.Module) -> tuple[Tensor | None, ...]:
        output = function(inner)
        total = torch.stack([part.sum() for part in ([output] if isinstance(output, Tensor) else output)]).sum()
        # Here, where the values are in place: checkpointed activations are computed anew.
        return torch.autograd.grad(total, list(values.values()), allow_unused=True)

    with torch.enable_grad():
        gradients = functional_call(_Part(model, differentiated), {f"model.{n}": p for n, p in values.items()}, ())
    return [name for name, gradient in zip(values, gradients, strict=True) if gradient is not None]
