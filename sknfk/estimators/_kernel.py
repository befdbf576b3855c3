"""NFKernel: the exact Neural Fisher Kernel, for kernel machines."""

from __future__ import annotations

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from .._sklearn import fit_context, restored_on_failure
from ..fisher import FisherVectors, gram_matrix
from ._base import FisherEstimator
from ._gp import FisherGPKernel
from ._rows import results_like, rows_of

__all__ = ["NFKernel"]


class NFKernel(FisherEstimator):
    """Kernel matrix of Fisher vectors, K(x, x_i) = V_x . V_{x_i}, exact.

    A transformer: ``fit`` keeps the statistics and X, ``transform`` returns the
    kernel between new examples and those of ``fit``, so that
    ``make_pipeline(NFKernel(model), SVC(kernel="precomputed"))`` can be
    cross-validated as it stands.

    Cost of ``fit``: one pass; of a kernel between N and M examples: one pass over
    the M, one over the N for each 256 MiB of the M Fisher vectors, and N M P
    multiplications in float64.

    Parameters
    ----------
    model : Module, factory class, skorch net, FrozenEstimator or None, default=None
        As in :class:`NFKTransformer`.
    density : str, Density or callable, default="auto"
        What the model says about the density of x.
    parameters : None, str, list of str or callable, default=None
        Which parameters are differentiated.
    fisher : {"diag", "factored", "identity"}, default="diag"
        Whitening of the scores; "factored" takes a rank-one diagonal for each layer;
        "identity" with ``center=False`` is the empirical
        neural tangent kernel of the log-density (NFK paper, Eq. 7).
    center : bool, default=True
        Whether the mean score is subtracted.
    statistics : {"auto", "data", "model"} or array-like, default="auto"
        The rows that the mean score and the information are means over.
    n_reference : int, default=1024
        Samples that are drawn where statistics are the model's.
    damping : float, default=1e-3
        Added to the information, as a multiple of its mean.
    normalize : {"l2"} or None, default=None
        "l2" is the cosine kernel.
    input_shape : tuple of int or None, default=None
        Shape of one example for the model, where X has flat rows.
    engine : {"auto", "layerwise", "vmap", "loop", "jvp"}, default="auto"
        How gradients are computed.
    batch_size : int or "auto", default="auto"
        Examples whose gradients are held at once.
    max_memory : int or None, default=None
        Bytes that the gradients of a batch may take; None is half of the device's
        total memory.
    device : str, default="auto"
        Where to compute.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Precision of the gradients; their products are in float64.
    random_state : int, RandomState instance or None, default=None
        Seeds models made or trained here.

    Attributes
    ----------
    X_fit_ : ndarray of shape (n_samples, ...)
        The examples of ``fit``.
    mean_score_ : ndarray of shape (n_parameters_,)
        Mean score z; zero where ``center=False``.
    information_ : ndarray of shape (n_parameters_,)
        Diagonal Fisher information; exactly zero for dead parameters.
    scale_ : ndarray of shape (n_parameters_,)
        D, what centred scores are multiplied by.
    dead_fraction_ : float
        Share of the parameters that carry no information.
    n_parameters_ : int
        Number of entries of the selected parameters.
    parameter_names_ : list of str
        Names of the selected parameters.
    engine_ : str
        The engine that was used.
    batch_size_ : int
        The batch size that was used.
    density_ : Density
        The density that was used.
    module_ : Module
        The fit's own copy of the model, in eval mode.
    n_features_in_ : int
        Number of features seen during fit; the second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit, where X has string column names.

    See Also
    --------
    NFKTransformer : The kernel's best rank-K approximation, as features.

    References
    ----------
    .. [1] Zhang, Zhai, Littwin, Susskind. "Learning Representation from Neural
       Fisher Kernel with Low-rank Approximation", ICLR 2022, section 3.
    .. [2] Zhai, Talbott, Guestrin, Susskind. "Adversarial Fisher Vectors for
       Unsupervised Representation Learning", NeurIPS 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from sknfk import NFKernel
    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> kernel = NFKernel(normalize="l2", random_state=0).fit(X)
    >>> kernel.transform(X[:2]).shape
    (2, 20)
    >>> bool(np.allclose(kernel.diag(X), 1))
    True
    """

    _parameter_constraints: dict = {**FisherEstimator._parameter_constraints}

    def __init__(
        self,
        model=None,
        *,
        density="auto",
        parameters=None,
        fisher="diag",
        center=True,
        statistics="auto",
        n_reference=1024,
        damping=1e-3,
        normalize=None,
        input_shape=None,
        engine="auto",
        batch_size="auto",
        max_memory=None,
        device="auto",
        dtype="auto",
        random_state=None,
    ):
        self.model = model
        self.density = density
        self.parameters = parameters
        self.fisher = fisher
        self.center = center
        self.statistics = statistics
        self.n_reference = n_reference
        self.damping = damping
        self.normalize = normalize
        self.input_shape = input_shape
        self.engine = engine
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.device = device
        self.dtype = dtype
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None):
        """Estimate the Fisher statistics and keep X.

        Cost: one pass over X.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.
        y : array-like of shape (n_samples,), default=None
            Targets, for a ``model`` that is trained here; ignored otherwise.

        Returns
        -------
        self : NFKernel
            The fitted kernel.
        """
        with restored_on_failure(self):
            X = self._read(X, reset=True)
            setup, _ = self._set_up(X, y)
            statistics, scale, _ = self._estimate(setup, setup.batches(rows_of(X)))
            self._store_model(setup, X, statistics.mean_score, statistics.information, scale)
            self.X_fit_ = X
        return self

    def transform(self, X):
        """Return the kernel between X and the examples of ``fit``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.

        Returns
        -------
        ndarray of shape (n_samples, n_samples_fit)
            The kernel matrix.
        """
        X = self._read_fitted(X, "transform")
        return self._kernel(X, self.X_fit_, self._work_dtype)

    def __call__(self, X, Y=None):
        """Return the kernel between X and Y.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, ...)
            Examples.
        Y : array-like of shape (n_samples_Y, ...), default=None
            Examples; None takes X.

        Returns
        -------
        ndarray of shape (n_samples_X, n_samples_Y)
            The kernel matrix.
        """
        return self._between(X, Y, self._work_dtype)

    def diag(self, X):
        """Return the kernel of each example with itself.

        Cost: one pass over X.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``||V_x||^2``, or 1 where ``normalize="l2"``.
        """
        return self._diagonal(X, self._work_dtype)

    def fisher_distance(self, X, Y=None):
        """Return the distances of Fisher vectors, ``||V_x - V_y||``.

        As between Adversarial Fisher Vectors (Zhai et al. 2019), where the statistics
        are a generator's; with ``normalize="l2"``, those of their directions. They are
        known to about sqrt(eps) of the vectors' length, eps that of the model's dtype.
        Cost: that of the kernel between X and Y, and a pass over each.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, ...)
            Examples.
        Y : array-like of shape (n_samples_Y, ...), default=None
            Examples; None takes X.

        Returns
        -------
        ndarray of shape (n_samples_X, n_samples_Y)
            The distances; zero on the diagonal where ``Y`` is None.
        """
        X = self._read_fitted(X, "fisher_distance")
        left = self._fisher_vectors(X)
        right = None if Y is None else self._fisher_vectors(self._read_fitted(Y, "fisher_distance"))
        kernel = self._gram(left, right)
        squared, other = (self._squared_norms(v) for v in (left, left if right is None else right))
        distance = (squared[:, None] + other - 2 * kernel).clamp_min(0).sqrt()
        if Y is None:
            distance.fill_diagonal_(0)
        return results_like(distance.to(self._work_dtype), X)

    def fisher_similarity(self, X, Y=None):
        """Return how alike two sets are to the model: 1 if their mean scores agree.

        ``exp(-10 ||mean V_X - mean V_Y||^2 / n_parameters_)`` (Zhai et al. 2019). The
        mean Fisher vector of the fit's reference rows is zero: with a generator's
        statistics, one set alone is compared with what the generator makes.
        ``normalize`` plays no part. Sets of few rows are apart by chance; compare sets
        of equal size. Cost: one pass over each.

        Parameters
        ----------
        X : array-like of shape (n_samples_X, ...)
            One set.
        Y : array-like of shape (n_samples_Y, ...), default=None
            The other; None takes the reference rows of ``fit``.

        Returns
        -------
        float
            Between 0 and 1.
        """
        difference = self._mean_vector(X)
        if Y is not None:
            difference = difference - self._mean_vector(Y)
        return float(torch.exp(-10 * difference.square().mean()))

    def as_gp_kernel(self):
        """Return the fitted kernel as one of ``sklearn.gaussian_process.kernels``.

        Serves ``GaussianProcessRegressor``, ``KernelRidge``, ``KernelPCA``,
        ``Nystroem`` and ``SVC`` with one vectorised call for a whole matrix, which is in
        float64 for a float32 model too: rounded to float32, a kernel matrix has negative
        eigenvalues, and what a Gaussian process adds to its diagonal is lost.

        Returns
        -------
        FisherGPKernel
            The kernel, without hyper-parameters of its own.
        """
        check_is_fitted(self)
        return FisherGPKernel(self)

    @property
    def _n_features_out(self) -> int:
        return self.X_fit_.shape[0]

    def _between(self, X, Y, dtype: torch.dtype):
        X = self._read_fitted(X, "__call__")
        return self._kernel(X, None if Y is None else self._read_fitted(Y, "__call__"), dtype)

    def _diagonal(self, X, dtype: torch.dtype):
        X = self._read_fitted(X, "diag")
        return results_like(self._squared_norms(self._fisher_vectors(X)).to(dtype), X)

    def _kernel(self, X, Y, dtype: torch.dtype):
        kernel = self._gram(self._fisher_vectors(X), None if Y is None else self._fisher_vectors(Y))
        return results_like(kernel.to(dtype), X)

    def _gram(self, left: FisherVectors, right: FisherVectors | None) -> Tensor:
        """Return the kernel in float64."""
        kernel = gram_matrix(left, right)
        if self.normalize == "l2":
            kernel = _cosine(kernel, left, right)
        if not bool(torch.isfinite(kernel).all()):
            raise ValueError(
                "The kernel must be finite. Gradients of some rows of X are NaN or infinite; "
                "check the scaling of X against that of the rows in fit."
            )
        return kernel

    def _squared_norms(self, vectors: FisherVectors) -> Tensor:
        """Return the kernel of each row with itself, (N,) in float64."""
        squared = vectors.squared_norms()
        return (squared > 0).double() if self.normalize == "l2" else squared

    def _mean_vector(self, X) -> Tensor:
        """Return the mean Fisher vector, (P,) in float64."""
        vectors = self._fisher_vectors(self._read_fitted(X, "fisher_similarity"))
        ones = torch.ones(vectors.shape[0], 1, dtype=vectors.dtype, device=vectors.device)
        return vectors.rmatmat(ones)[:, 0].double() / vectors.shape[0]


def _cosine(kernel: Tensor, left: FisherVectors, right: FisherVectors | None) -> Tensor:
    squared_left = left.squared_norms()
    squared_right = squared_left if right is None else right.squared_norms()

    def inverse_root(squared: Tensor) -> Tensor:
        return torch.where(squared > 0, squared.rsqrt(), 0.0)

    return inverse_root(squared_left)[:, None] * kernel * inverse_root(squared_right)
