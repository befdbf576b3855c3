"""Training towards activations of low rank: a virtual layer that is in the loss alone."""

from __future__ import annotations

from typing import Any

import torch
from skorch.callbacks import Callback
from torch import Tensor, nn

from .._layers import layers_named

__all__ = ["LowRankCallback", "LowRankRegularizer"]

N_SAMPLES = 4  # of columns, in the ensemble


class LowRankRegularizer(nn.Module):
    """Draws activations towards an affine subspace of low rank, in training.

    A virtual layer [1]_ with a matrix W of rank r and a shift b. For activations a_i
    (B, m) the backward pass goes as if the loss had the terms ::

        weight * mean ||W^T (a_i + b) - (a_i + b)||^2 + norm_weight * mean |1 - ||a_i|||

    while the activations themselves pass as they are. The second term keeps them from
    shrinking to zero. W and b are no parameters of the network: as the running mean of
    a batch normalisation, they follow the activations, by alternating minimisation.
    Each training batch moves W one gradient step and b towards minus the mean, its
    best value for any W; every few batches :meth:`project` cuts W back to rank r. They
    start as principal directions and minus the mean of the first batch.

    Put it between two layers, or let :class:`LowRankCallback` listen to a layer of a
    skorch net. A gradient scaler would scale the network's loss and not the two terms.

    Cost: m^2 numbers, and 6 B m^2 multiplications for each training batch.

    Parameters
    ----------
    width : int
        m, entries of an activation.
    rank : int
        r.
    weight : float, default=1.0
        Of the first term.
    norm_weight : float, default=1.0
        Of the second.
    every : int, default=10
        Batches between two projections.
    lr : float, default=0.5
        Rate of W and b, between 0 and 1. That of W is a share of the mean squared
        length of a + b, with which steps are stable however long activations are.
    random_state : int, default=0
        Seeds the columns that projections sample.

    Attributes
    ----------
    W : Tensor of shape (width, width)
        The virtual layer's matrix, a buffer.
    b : Tensor of shape (width,)
        Its shift, a buffer.
    n_batches : Tensor of shape ()
        Training batches so far, a buffer.

    References
    ----------
    .. [1] Sanyal, Kanade, Torr, Dokania. "Robustness via deep low-rank
       representations", 2018.

    Examples
    --------
    >>> import torch
    >>> from sknfk import LowRankRegularizer
    >>> virtual = LowRankRegularizer(width=8, rank=2)
    >>> a = torch.randn(4, 8, requires_grad=True)
    >>> out = virtual(a)
    >>> bool((out == a).all())
    True
    >>> out.sum().backward()  # the gradient of the sum and of the two terms
    >>> bool((a.grad != 1).any())
    True
    """

    def __init__(
        self,
        width: int,
        rank: int,
        *,
        weight: float = 1.0,
        norm_weight: float = 1.0,
        every: int = 10,
        lr: float = 0.5,
        random_state: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= rank <= width:
            raise ValueError(
                f"`rank` must be between 1 and the width of the activations, {width}. Got {rank}; choose one of them."
            )
        if not 0 < lr <= 1:
            raise ValueError(f"`lr` must be above 0 and at most 1. Got {lr}; the default is 0.5.")
        self.width, self.rank = width, rank
        self.weight, self.norm_weight = weight, norm_weight
        self.every, self.lr, self.random_state = every, lr, random_state
        self.W: Tensor
        self.b: Tensor
        self.n_batches: Tensor
        self.register_buffer("W", torch.diag((torch.arange(width) < rank).float()))
        self.register_buffer("b", torch.zeros(width))
        self.register_buffer("n_batches", torch.tensor(0))

    def forward(self, a: Tensor) -> Tensor:
        """Return activations as they are; in training, follow them and add the terms.

        Parameters
        ----------
        a : Tensor of shape (B, ...)
            Activations with ``width`` entries in each row.

        Returns
        -------
        Tensor of shape (B, ...)
            The same.
        """
        if not self.training or not torch.is_grad_enabled():
            return a
        self._follow(self._rows(a.detach()))
        return _LossBeside.apply(a, self.loss(a))

    def loss(self, a: Tensor) -> Tensor:
        """Return both terms, weighted.

        Parameters
        ----------
        a : Tensor of shape (B, ...)
            Activations.

        Returns
        -------
        Tensor of shape ()
            The sum of the terms.

        Raises
        ------
        ValueError
            If rows have another width.
        """
        rows = self._rows(a)
        shifted = rows + self.b
        compression = (shifted @ self.W - shifted).square().sum(1).mean()
        norm = (1 - rows.norm(dim=1)).abs().mean()
        return self.weight * compression + self.norm_weight * norm

    @torch.no_grad()
    def project(self) -> None:
        """Cut W to its rank, by an ensemble of column samples (Kumar et al. 2009).

        Each sample of 2 r columns, drawn by their squared lengths, gives r directions,
        on which W is projected; the mean of these approximations is cut to rank r
        within their joint span. Cost: O(r m^2), where an SVD of W is O(m^3).
        """
        generator = torch.Generator().manual_seed(self.random_state + int(self.n_batches))
        lengths = self.W.square().sum(0).double().cpu()
        weights = lengths + 1e-6 * lengths.mean() + torch.finfo(torch.float64).tiny
        n_columns = min(self.width, 2 * self.rank)
        bases = []
        for _ in range(N_SAMPLES):
            chosen = torch.multinomial(weights, n_columns, generator=generator).to(self.W.device)
            bases.append(torch.linalg.svd(self.W[:, chosen], full_matrices=False)[0][:, : self.rank])
        joint = torch.cat(bases, 1)  # (m, samples r)
        Q, R = torch.linalg.qr(joint)
        U, S, Vh = torch.linalg.svd(R @ (joint.T @ self.W) / N_SAMPLES, full_matrices=False)  # of Q^T mean
        r = self.rank
        self.W = (Q @ U[:, :r] * S[:r]) @ Vh[:r]

    def _rows(self, a: Tensor) -> Tensor:
        rows = a.flatten(1)
        if rows.shape[1] != self.width:
            raise ValueError(
                f"`width` must be that of the activations, {rows.shape[1]}. Got {self.width}; make one of that width."
            )
        return rows.to(self.W.dtype)  # halves too: they have no factorisations

    @torch.no_grad()
    def _follow(self, rows: Tensor) -> None:
        """Take one step of W and b, and cut W if it is time; the old ones stay for the backward pass."""
        mean = rows.mean(0)
        if self.n_batches == 0:
            self.b = -mean
            _, _, Vh = torch.linalg.svd(rows - mean, full_matrices=False)
            self.W = Vh[: self.rank].T @ Vh[: self.rank]
        else:
            self.b = self.b - self.lr * (self.b + mean)
            shifted = rows + self.b
            squared = shifted.square().sum().clamp_min(torch.finfo(rows.dtype).tiny)
            self.W = self.W - self.lr * (shifted.T @ (shifted @ self.W - shifted)) / squared
        self.n_batches = self.n_batches + 1
        if self.n_batches % self.every == 0:
            self.project()


class LowRankCallback(Callback):
    """Draws layers of a skorch net towards low rank while it is trained.

    Each layer's output goes through a :class:`LowRankRegularizer` of its own. The
    net's criterion, optimiser and history stay as they are: the terms join its
    backward pass. Nothing is left on the module afterwards.

    Parameters
    ----------
    layers : str or list of str
        Names of the layers whose outputs are regularised, as in ``named_modules``.
    rank : int
        r.
    weight : float, default=1.0
        Of the distance from rank r.
    norm_weight : float, default=1.0
        Of the distance of the activations' lengths from 1.
    every : int, default=10
        Batches between two projections.
    lr : float, default=0.5
        Rate of the virtual layers.
    random_state : int, default=0
        Seeds their projections.

    Attributes
    ----------
    regularizers_ : dict of str to LowRankRegularizer
        By the names of the layers, made at their first batch.

    Examples
    --------
    >>> import numpy as np
    >>> from skorch import NeuralNetClassifier
    >>> from torch import nn
    >>> from sknfk import LowRankCallback
    >>> module = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    >>> net = NeuralNetClassifier(
    ...     module, criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0, callbacks=[LowRankCallback("1", rank=2)]
    ... )
    >>> X, y = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32), np.arange(40) % 2
    >>> net.fit(X, y).predict(X).shape
    (40,)
    """

    def __init__(
        self,
        layers: str | list[str],
        rank: int,
        *,
        weight: float = 1.0,
        norm_weight: float = 1.0,
        every: int = 10,
        lr: float = 0.5,
        random_state: int = 0,
    ) -> None:
        self.layers = layers
        self.rank = rank
        self.weight = weight
        self.norm_weight = norm_weight
        self.every = every
        self.lr = lr
        self.random_state = random_state

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Find the layers and listen to their outputs.

        Parameters
        ----------
        net : NeuralNet
            The net.
        X : array-like, default=None
            Not used.
        y : array-like, default=None
            Not used.
        **kwargs : dict
            Not used.

        Raises
        ------
        ValueError
            If the net's module has no layer of a name; it tells near names.
        """
        self._stop_listening()  # to the layers of a training that failed
        self.regularizers_: dict[str, LowRankRegularizer] = {}
        found = layers_named(net.module_, self.layers)
        self._hooks += [layer.register_forward_hook(self._hook(name)) for name, layer in found.items()]

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        """Listen no longer.

        Parameters
        ----------
        net : NeuralNet
            The net.
        X : array-like, default=None
            Not used.
        y : array-like, default=None
            Not used.
        **kwargs : dict
            Not used.
        """
        self._stop_listening()

    def _stop_listening(self) -> None:
        for hook in getattr(self, "_hooks", ()):
            hook.remove()
        self._hooks: list[Any] = []

    def _hook(self, name: str) -> Any:
        def listen(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            if not (layer.training and torch.is_grad_enabled()):
                return output
            if name not in self.regularizers_:
                made = LowRankRegularizer(
                    output[0].numel(),
                    self.rank,
                    weight=self.weight,
                    norm_weight=self.norm_weight,
                    every=self.every,
                    lr=self.lr,
                    random_state=self.random_state,
                )
                dtype = torch.promote_types(output.dtype, torch.float32)
                self.regularizers_[name] = made.to(output.device, dtype)
            return self.regularizers_[name](output)

        return listen


class _LossBeside(torch.autograd.Function):
    """Returns its first input as it is; in the backward pass the second, a loss, counts once."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, loss: Tensor) -> Tensor:
        ctx.save_for_backward(loss)
        return a.view_as(a)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (loss,) = ctx.saved_tensors
        return gradients[0], torch.ones_like(loss)
