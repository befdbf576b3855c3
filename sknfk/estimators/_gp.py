"""A fitted NFKernel in the form that scikit-learn's kernel machines vectorise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.gaussian_process.kernels import GenericKernelMixin, Kernel

if TYPE_CHECKING:
    from ._kernel import NFKernel

__all__ = ["FisherGPKernel"]


class FisherGPKernel(GenericKernelMixin, Kernel):
    """The Neural Fisher Kernel as a ``sklearn.gaussian_process`` kernel.

    ``pairwise_kernels`` calls a plain function once for each pair of rows, and a
    kernel of this class once for all. It has no hyper-parameters; multiply it by
    a ``ConstantKernel`` and add a ``WhiteKernel`` to have some. Fisher vectors are
    centred, so center y or add a ``ConstantKernel``.

    Parameters
    ----------
    kernel : NFKernel
        A fitted kernel.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.kernel_ridge import KernelRidge
    >>> from sknfk import NFKernel
    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> kernel = NFKernel(random_state=0).fit(X).as_gp_kernel()
    >>> KernelRidge(kernel=kernel).fit(X, X[:, 0]).predict(X[:2]).shape
    (2,)
    """

    def __init__(self, kernel: NFKernel) -> None:
        self.kernel = kernel

    def __sklearn_clone__(self) -> FisherGPKernel:
        """Return itself: a clone would lose the fitted model."""
        return self

    def __call__(self, X, Y=None, eval_gradient=False):
        """Return the kernel between X and Y.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, ...)
            Examples.
        Y : array-like of shape (n_samples_Y, ...), default=None
            Examples; None takes X.
        eval_gradient : bool, default=False
            Whether the gradient by the hyper-parameters is returned too; there
            are none.

        Returns
        -------
        K : ndarray of shape (n_samples_X, n_samples_Y)
            The kernel matrix, in float64.
        K_gradient : ndarray of shape (n_samples_X, n_samples_X, 0)
            Only where ``eval_gradient`` is True.
        """
        K = self.kernel._between(X, Y, torch.float64)
        return (K, np.empty((*K.shape, 0))) if eval_gradient else K

    def diag(self, X):
        """Return the kernel of each example with itself.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.

        Returns
        -------
        ndarray of shape (n_samples,)
            Diagonal of the kernel matrix, in float64.
        """
        return self.kernel._diagonal(X, torch.float64)

    def is_stationary(self) -> bool:
        """Return False: the kernel depends on more than the difference of its inputs.

        Returns
        -------
        bool
            False.
        """
        return False

    def __repr__(self) -> str:
        """Name the kernel and its model."""
        return f"FisherGPKernel({type(self.kernel.module_).__name__})"
