"""Fisher vectors seen by a solver whose blocks are spread over processes."""

from __future__ import annotations

from torch import Tensor

from ..distributed import Peers
from ._vectors import FisherVectors

__all__ = ["SpreadBlocks"]


class SpreadBlocks:
    """V for blocks of which each process holds some rows, those of its parameters.

    A sweep joins the block, visits this process's examples with it, and keeps this
    process's rows of the sum: each gradient is formed once, in one process. What a
    solver does with its blocks between sweeps is shared out, and so is their memory.

    Parameters
    ----------
    vectors : FisherVectors
        What it shows.
    peers : Peers
        The processes; they know how many of the P parameters each has.

    Attributes
    ----------
    shape : tuple of int
        (N, P).
    dtype : dtype
        Of the products.
    device : device
        Where they are.
    """

    def __init__(self, vectors: FisherVectors, peers: Peers) -> None:
        self.vectors = vectors
        self.peers = peers
        self.shape = vectors.shape
        self.dtype = vectors.dtype
        self.device = vectors.device

    def matmat(self, W: Tensor) -> Tensor:
        """Return V W of this process's examples, for its rows of W.

        Cost: one pass, and an all-reduce of W.
        """
        return self.vectors.matmat(self.peers.joined(W))

    def rmatmat(self, Y: Tensor) -> Tensor:
        """Return this process's rows of V^T Y, for its examples' rows of Y.

        Cost: one pass, and an all-reduce of V^T Y.
        """
        return self._own(self.vectors.rmatmat(Y))

    def sweep(self, W: Tensor) -> tuple[Tensor, Tensor]:
        """Return Y^T Y, and this process's rows of V^T Y, for Y = V W and its rows of W.

        Cost: one pass, and all-reduces of W and of V^T Y.
        """
        gram, product = self.vectors.sweep(self.peers.joined(W))
        return gram, self._own(product)

    def gram(self) -> Tensor:
        """Return V V^T of this process's examples. Cost: as there."""
        return self.vectors.gram()

    def _own(self, product: Tensor) -> Tensor:
        return product[self.peers.part].clone()  # the rest must not stay in memory with it
