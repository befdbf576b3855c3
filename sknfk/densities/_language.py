"""Language models: the log-likelihood of a sequence of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import debug_unwrap

from .._typing import Inputs
from ._base import Density
from ._forward import described, main_output

__all__ = ["LanguageModel"]


@dataclass(frozen=True, repr=False)
class LanguageModel(Density):
    """log p(x) = sum_t log p(x_t | x_1 ... x_{t-1}), of a causal language model.

    The first token is given. Where X has a mask, tokens that it leaves out are not
    counted: padding on the right changes nothing, as the model reads from the left.
    Padding on the left would shift the positions that it counts, and is refused.

    Parameters
    ----------
    tokens : str, default="input_ids"
        Which part of X holds the tokens, where it has parts.
    mask : str or None, default="attention_mask"
        Which part is 1 for tokens and 0 for padding, where it has such a part.
    padding : int or None, default=None
        The token that stands for padding, where X is one array of tokens.

    References
    ----------
    .. [1] Bengio, Ducharme, Vincent, Jauvin. "A neural probabilistic language
       model", JMLR 2003.

    Examples
    --------
    >>> import torch
    >>> from sknfk.densities import LanguageModel
    >>> uniform = torch.nn.Embedding.from_pretrained(torch.zeros(4, 4))  # any next token
    >>> LanguageModel().log_density(uniform, torch.tensor([[0, 1, 2]])).exp()
    tensor([0.0625])
    """

    tokens: str = "input_ids"
    mask: str | None = "attention_mask"
    padding: int | None = None

    def log_density(self, model: nn.Module, x: Inputs) -> Tensor:
        """Return the log-likelihood of each sequence.

        Parameters
        ----------
        model : Module
            Returns logits of the next token at each position, (B, T, n_tokens).
        x : Tensor of shape (B, T), or mapping of str to Tensor
            Tokens.

        Returns
        -------
        Tensor of shape (B,)
            Log-likelihoods, in nats.
        """
        tokens, counted = self._tokens(x)
        logits = main_output(model, x)
        if logits.ndim != 3 or logits.shape[:2] != tokens.shape:
            raise ValueError(
                "`model` must return logits of the next token at each position, (B, T, n_tokens). Got "
                f"{described(logits)} for tokens of shape {tuple(tokens.shape)}; pass a causal language model."
            )
        log_p = torch.log_softmax(logits[:, :-1], dim=2).gather(2, tokens[:, 1:, None])[:, :, 0]  # (B, T - 1)
        return (log_p if counted is None else torch.where(counted[:, 1:], log_p, 0.0)).sum(1)

    def _tokens(self, x: Inputs) -> tuple[Tensor, Tensor | None]:
        """Return the tokens (B, T), and which of them count."""
        if isinstance(x, Mapping) and self.tokens not in x:
            raise ValueError(f"`tokens` must name a part of X. Got '{self.tokens}'; X has {', '.join(x)}.")
        tokens = x[self.tokens] if isinstance(x, Mapping) else x
        if isinstance(x, Mapping) and self.mask is not None and self.mask in x:
            return tokens, _padded_right(x[self.mask] != 0, n_first=1)
        # The token for padding may also begin every sequence, as in GPT-2; two of them do not.
        return tokens, None if self.padding is None else _padded_right(tokens != self.padding, n_first=2)


def _padded_right(counted: Tensor, n_first: int) -> Tensor:
    """Return which tokens count, (B, T); refuse rows in which later ones do and the first ones do not."""
    padded_left = counted.any(1) & ~counted[:, :n_first].any(1)  # (B,)
    if bool(debug_unwrap(padded_left).any()):  # within vmap, of all rows
        raise ValueError(
            "`LanguageModel` needs X that is padded on the right. Got a row that begins with padding, which shifts the "
            "positions of its tokens; set `tokenizer.padding_side = 'right'`."
        )
    return counted
