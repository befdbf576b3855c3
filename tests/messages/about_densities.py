"""Messages about densities: (trigger, class, message)."""

import torch
from torch import nn

from sknfk.densities import (
    Discriminator,
    Embedding,
    Langevin,
    LanguageModel,
    Logit,
    LogProb,
    Output,
    Sampled,
    Variational,
)

from ..cases import mlp, seeded, tokens
from .making import X, rng, value


class TwoParts(nn.Module):
    def encode(self, x):
        return x

    def decode(self, z):
        return z


def gan(**options):
    return Discriminator(**{"generator": seeded(lambda: nn.Linear(2, 5))} | options)


def first_layer_that_tells_nothing():
    return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 5)).eval()


PREPARED = "Use what its method `prepared` returns."


MESSAGES = {
    "dequantize": (
        lambda: LogProb(dequantize="uniform"),
        ValueError,
        "`dequantize` must be 'add', 'pass' or None. Got 'uniform'.",
    ),
    "n_draws": (
        lambda: LogProb(dequantize="add", n_draws=0),
        ValueError,
        "`n_draws` must be an integer, at least 1. Got 0; more draws have less noise.",
    ),
    "log_prob that is not prepared": (
        lambda: LogProb(dequantize="add").log_density(mlp(5, 1), X),
        ValueError,
        f"`LogProb` must be prepared where it dequantises. {PREPARED}",
    ),
    "which": (
        lambda: Logit("largest"),
        ValueError,
        "`which` must be a class index, 'argmax' or 'sum'. Got 'largest'.",
    ),
    "a class that is not there": (
        lambda: value(Logit(7), mlp()),
        ValueError,
        "`which` must be a class of the model, 0 to 2. Got 7; count the classes from 0.",
    ),
    "projection": (
        lambda: Embedding(projection=0),
        ValueError,
        "`projection` must be a number of rows, at least 1, or None. Got 0; None keeps all.",
    ),
    "embedding that is not prepared": (
        lambda: Embedding(projection=2).log_density(mlp(), X),
        ValueError,
        f"`Embedding` must be prepared before it projects. {PREPARED}",
    ),
    "no logits of the next token": (
        lambda: value(LanguageModel(), tokens(), torch.zeros(3, 5, dtype=torch.long)),
        ValueError,
        "`model` must return logits of the next token at each position, (B, T, n_tokens). Got a tensor of shape (3, 3) "
        "for tokens of shape (3, 5); pass a causal language model.",
    ),
    "no part of tokens": (
        lambda: value(LanguageModel(), tokens(), {"ids": torch.zeros(3, 5, dtype=torch.long)}),
        ValueError,
        "`tokens` must name a part of X. Got 'input_ids'; X has ids.",
    ),
    "padding on the left": (
        lambda: value(LanguageModel(padding=0), tokens(), torch.tensor([[0, 0, 3], [3, 2, 0]])),
        ValueError,
        "`LanguageModel` needs X that is padded on the right. Got a row that begins with padding, which shifts the "
        "positions of its tokens; set `tokenizer.padding_side = 'right'`.",
    ),
    "likelihood": (
        lambda: Variational(likelihood="poisson"),
        ValueError,
        "`likelihood` must be 'bernoulli', 'gaussian' or a callable (parameters, x). Got 'poisson'.",
    ),
    "bound": (lambda: Variational(bound="iwae"), ValueError, "`bound` must be 'elbo' or 'importance'. Got 'iwae'."),
    "n_draws of pairs": (
        lambda: Variational(n_draws=5),
        ValueError,
        "`n_draws` must be an even integer, for antithetic pairs. Got 5; the default is 16.",
    ),
    "variational that is not prepared": (
        lambda: Variational().log_density(TwoParts(), X),
        ValueError,
        f"`Variational` must be prepared: its noise is drawn once. {PREPARED}",
    ),
    "an encoder that returns one tensor": (
        lambda: value(Variational(), TwoParts()),
        ValueError,
        "`encode` must return a pair (mean, log_variance), each (B, ...). Got Tensor; pass a callable (model, x) that "
        "returns the pair.",
    ),
    "generator": (
        lambda: Discriminator(generator="gan.pt"),
        TypeError,
        "`generator` must be a torch module. Got str; pass the network itself.",
    ),
    "latent": (
        lambda: gan(latent="gaussian"),
        ValueError,
        "`latent` must be 'normal', 'uniform' or a callable (n, rng). Got 'gaussian'.",
    ),
    "latent of another number": (
        lambda: gan(latent=lambda n, rng: torch.zeros(3, 2)).sample(None, 4, rng()),
        ValueError,
        "`latent` must return 4 latent variables, a tensor (n, ...). Got (3, 2); draw as many as its first argument "
        "says.",
    ),
    "latent_dim": (
        lambda: gan(generator=first_layer_that_tells_nothing()).prepared(mlp(5, 1), X, rng()),
        ValueError,
        "`latent_dim` must be given where the generator's first layer is neither linear nor a transposed convolution. "
        "Got None for Sequential; pass the shape of one latent variable.",
    ),
    "no sampler": (
        lambda: Sampled(Output(), "langevin"),
        TypeError,
        "`sampler` must be a Sampler. Got str; pass an instance of one of those in `sknfk.densities`, or of a subclass "
        "of your own.",
    ),
    "sampled that is not prepared": (
        lambda: Sampled(Output(), Langevin()).sample(mlp(5, 1), 2, rng()),
        ValueError,
        f"`Sampled` must be prepared before it samples. {PREPARED}",
    ),
}
