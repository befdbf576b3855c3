"""NFKTransformer: low-rank Neural Fisher Kernel features as a scikit-learn transformer."""

from __future__ import annotations

import os
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils.validation import check_memory

from .._sklearn import (
    CallbackSupportMixin,
    HasMethods,
    Interval,
    RealNotInt,
    StrOptions,
    fit_context,
    restored_on_failure,
)
from ..distributed import ALONE, Peers, together
from ..solvers import SOLVERS, most_sweeps
from ._access import FisherAccess
from ._base import FisherEstimator
from ._factorise import Factorisation, factorise, factorise_cached
from ._journal import check_checkpoint
from ._plan import check_gradient_cache
from ._progress import Progress
from ._rows import results_like
from ._saved import Saved

__all__ = ["NFKTransformer"]


class NFKTransformer(CallbackSupportMixin, Saved, FisherAccess):
    """Embed examples by a low-rank Neural Fisher Kernel of a trained torch model.

    The gradient of the model's log-density with respect to every parameter,
    centred, is an example's Fisher score; divided by the root of the diagonal
    Fisher information it is its Fisher vector V_x, one number for each parameter.
    The embedding is e(x) = V_x P_K, with P_K the leading K right singular vectors
    of the matrix of Fisher vectors V = Phi diag(S) P^T, found without forming V:
    ``e(x) @ e(y)`` is the best rank-K approximation of the Neural Fisher Kernel.
    Columns nest: the first k of them are the rank-k embedding.

    Cost of ``fit``: one pass over X for the statistics and about four for the
    factorisation, each one forward and one backward pass of the model and two
    matrix products; of ``transform``: one pass.

    Parameters
    ----------
    model : Module, factory class, skorch net, FrozenEstimator or None, default=None
        A pre-trained module is only read, shared by clones and hashed by its
        weights. A factory ``cls(n_features)`` is built with ``random_state`` and
        not trained. A skorch net is cloned and trained in ``fit`` on X and y;
        rows labelled -1 are left out of a classifier's training.
        ``FrozenEstimator(net)`` is a net that was fitted before. None trains a
        small Gaussian autoencoder, a convenience and no good feature extractor.
    n_components : int or float, default=64
        Number of components, clipped with a warning at min(n_samples,
        n_parameters); a float in (0, 1) is the share of the kernel's trace to
        keep.
    density : str, Density or callable, default="auto"
        What the model says about the density of x: "classifier" (the free energy
        of its logits), "discriminator" (of a GAN), "elbo" (a VAE with ``encode`` and
        ``decode``), "language_model" (logits of the next token), "log_prob" (it returns
        log p(x)), "output" (any scalar), a :class:`sknfk.densities.Density`, or a
        callable ``(model, x) -> (B,)``.
        "auto" takes (N, C >= 2) outputs as logits and one column as "output".
    parameters : None, str, list of str or callable, default=None
        Which parameters are differentiated: all that require a gradient, those
        that glob patterns match, or that a callable ``(name, parameter)`` accepts;
        "decoder" and "encoder" are the parts of a VAE, "last_layer" the last layer that
        has any. What lies before the first of them takes no part in the backward pass.
    fisher : {"diag", "factored", "identity"}, default="diag"
        Whitening of the scores. "factored" takes a rank-one diagonal for each layer,
        with which "exact" needs no formed gradients where layers are fully connected.
        "identity" with ``center=False`` is the empirical neural tangent kernel of the
        log-density.
    center : bool, default=True
        Whether the mean score is subtracted.
    statistics : {"auto", "data", "model"} or array-like, default="auto"
        The rows that the mean score and the information are means over: all of X,
        ``n_reference`` samples of the model, or the rows given. "auto" is "model"
        where the density samples in one pass (a GAN with its generator, a VAE), else
        "data".
    n_reference : int, default=1024
        Samples that are drawn where statistics are the model's.
    damping : float, default=1e-3
        Added to the information, as a multiple of its mean.
    normalize : {"l2"} or None, default=None
        "l2" gives rows of unit length: the cosine kernel.
    whiten : bool, default=False
        Whether components get unit variance on X; directions whose singular
        value is below 1e-3 of the first are not amplified further.
    input_shape : tuple of int or None, default=None
        Shape of one example for the model, where X has flat rows.
    solver : str, default="auto"
        "krylov" (fused block Krylov), "subspace", "exact" (Gram matrix), "paper"
        (Algorithm 4 by JVPs and VJPs), or scipy's "arpack", "propack", "lobpcg".
        Where few blocks of (n_parameters, n_components) fit, or none: "sketch-refined" (three
        light passes) and "sketch" (one; values to some per cent), as a last resort of "auto",
        which follows :func:`sknfk.solvers.select_solver`.
    sketch_width : int or "auto", default="auto"
        Columns of a sketch; "auto" is max(8192, 16 n_components).
    tol : float, default=1e-3
        The solver stops when the estimated share of the leading components'
        energy that is lost is at most this; sketches have none.
    max_sweeps : int or "auto", default="auto"
        Most passes of "krylov" ("auto" is 6) and "subspace" (12).
    n_oversamples : int, default=10
        Columns of a solver's block beyond the components.
    max_components : int or None, default=None
        Rank that is factorised where ``memory`` is given, so that every
        ``n_components`` up to it is a slice of one factorisation; with a float
        ``n_components``, the largest rank to try (None is 1024).
    memory : str, joblib.Memory or None, default=None
        Where factorisations are kept, keyed by the weights, the code of the model and the
        density, X and all settings but y, ``n_components``, ``batch_size`` and ``device``.
    engine : {"auto", "layerwise", "vmap", "loop", "jvp"}, default="auto"
        How gradients are computed: from the inputs and signals of each layer, by
        ``torch.func``, one example at a time, or not at all ("jvp", products by
        forward and reverse mode). "auto" is "layerwise", "vmap" where that fails or is predicted
        to cost more, "loop" where vmap fails; checked against plain autograd on two examples.
    gradient_cache : {"auto", "device", "ram"}, str or None, default="auto"
        Where the gradients of X are kept in bfloat16 during ``fit``: on the device,
        in the host's memory, or in a file in the folder named. "auto" keeps them
        where reading beats computing and they fit; None computes them at every pass.
        Rounding costs some 1e-6 of the trace. Products are in bfloat16 too where
        ``tol`` is at least 1e-2.
    batch_size : int or "auto", default="auto"
        Examples whose gradients are held at once; "auto" is at most 128, and 512 where
        gradients are most of what a batch holds. Results change by rounding alone.
    max_memory : int or None, default=None
        Bytes that a fit may work with, beside X, the model and the result; None is
        half of the device's total memory. What would need more is refused before any
        work; but for the cache and "exact", the need does not grow with n_samples.
    device : str, default="auto"
        Where to compute: the model's own device if it is not the CPU, else CUDA
        where there is one, else the CPU.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Precision; "auto" is the model's own, or X's for models made here.
    checkpoint : str, path-like or None, default=None
        File that a fit writes what it has found to, after each sweep and, within long
        passes, every minute: a fit of the same data and settings that was interrupted
        goes on from there, on the CPU to the same bits; one that asks for more
        components or a smaller ``tol`` goes on from the basis found. It stays after
        the fit, with the generation before it beside it. Needs an int
        ``random_state``; rows are checked against digests as they are read.
    random_state : int, RandomState instance or None, default=None
        Seeds the solver's random block and models made or trained here.

    Attributes
    ----------
    components_ : ndarray of shape (n_components_, n_parameters_)
        Orthonormal rows P_K^T, ordered by singular value; (n_components_, sketch_width),
        of the sketched Fisher vectors, with solver="sketch".
    singular_values_ : ndarray of shape (n_components_,)
        Singular values of the matrix of Fisher vectors of X.
    explained_variance_ : ndarray of shape (n_components_,)
        ``singular_values_ ** 2 / n_samples``.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        Shares of ``total_variance_``.
    total_variance_ : float
        Mean of ``||V_x||^2`` over X: the kernel's trace over n_samples.
    mean_shift_ : float
        Share of it that is the squared length of the mean Fisher vector of X: 0 where
        scores are centred at X's own mean, how far X is from the model elsewhere.
    mean_score_ : ndarray of shape (n_parameters_,)
        Mean score z; zero where ``center=False``.
    information_ : ndarray of shape (n_parameters_,)
        Diagonal Fisher information; exactly zero for dead parameters.
    scale_ : ndarray of shape (n_parameters_,)
        D, what centred scores are multiplied by.
    dead_fraction_ : float
        Share of the parameters that carry no information.
    n_components_ : int
        Number of components.
    n_parameters_ : int
        Number of entries of the selected parameters.
    parameter_names_ : list of str
        Names of the selected parameters, in the order of ``components_``.
    error_estimate_ : float
        Estimated share of the leading components' energy that is lost; nan
        where the solver has no estimate.
    n_sweeps_ : int
        Passes over X that the solver made.
    solver_ : str
        The solver that was used.
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
    NFKernel : The exact kernel, for kernel machines.
    TakeComponents : The first columns, as a pipeline step.

    Notes
    -----
    A ``StandardScaler`` after this transformer undoes the weighting of the
    spectrum and costs accuracy when labels are few; use ``normalize="l2"`` or
    nothing. Without either, rows have a mean squared length of nearly
    ``total_variance_``, and iterative probes converge slowly.

    References
    ----------
    .. [1] Zhang, Zhai, Littwin, Susskind. "Learning Representation from Neural
       Fisher Kernel with Low-rank Approximation", ICLR 2022.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_digits
    >>> from sknfk import NFKTransformer
    >>> X, y = load_digits(return_X_y=True)
    >>> with torch.random.fork_rng():
    ...     _ = torch.manual_seed(0)
    ...     model = torch.nn.Sequential(torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    >>> nfk = NFKTransformer(model, n_components=8, random_state=0)
    >>> nfk.fit_transform(X / 16).shape
    (1797, 8)
    """

    _parameter_constraints: dict = {
        **FisherEstimator._parameter_constraints,
        "n_components": [Interval(Integral, 1, None, closed="left"), Interval(RealNotInt, 0, 1, closed="neither")],
        "whiten": ["boolean"],
        "solver": [StrOptions({"auto", *SOLVERS})],
        "sketch_width": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_sweeps": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_oversamples": [Interval(Integral, 1, None, closed="left")],
        "max_components": [Interval(Integral, 1, None, closed="left"), None],
        "memory": [str, HasMethods("cache"), None],
        "gradient_cache": [str, None],
        "checkpoint": [str, os.PathLike, None],
    }

    def __init__(
        self,
        model=None,
        n_components=64,
        *,
        density="auto",
        parameters=None,
        fisher="diag",
        center=True,
        statistics="auto",
        n_reference=1024,
        damping=1e-3,
        normalize=None,
        whiten=False,
        input_shape=None,
        solver="auto",
        sketch_width="auto",
        tol=1e-3,
        max_sweeps="auto",
        n_oversamples=10,
        max_components=None,
        memory=None,
        engine="auto",
        gradient_cache="auto",
        batch_size="auto",
        max_memory=None,
        device="auto",
        dtype="auto",
        checkpoint=None,
        random_state=None,
    ):
        self.model = model
        self.n_components = n_components
        self.density = density
        self.parameters = parameters
        self.fisher = fisher
        self.center = center
        self.statistics = statistics
        self.n_reference = n_reference
        self.damping = damping
        self.normalize = normalize
        self.whiten = whiten
        self.input_shape = input_shape
        self.solver = solver
        self.sketch_width = sketch_width
        self.tol = tol
        self.max_sweeps = max_sweeps
        self.n_oversamples = n_oversamples
        self.max_components = max_components
        self.memory = memory
        self.engine = engine
        self.gradient_cache = gradient_cache
        self.batch_size = batch_size
        self.max_memory = max_memory
        self.device = device
        self.dtype = dtype
        self.checkpoint = checkpoint
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None):
        """Estimate the Fisher statistics and factorise the Fisher vectors of X.

        Cost: one pass over X, and ``n_sweeps_`` more. In a group of ``torch.distributed``
        X is this process's rows, and all processes fit together (:mod:`sknfk.distributed`).

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), dict, list of dict, Dataset or DataLoader
            Examples; float, or integer where the model takes tokens. Parts by name are
            arguments of the model; data sets, loaders and arrays on disk are read a
            batch at a time, ``(x, y)`` for x.
        y : array-like of shape (n_samples,), default=None
            Targets, for a ``model`` that is trained here; ignored otherwise.

        Returns
        -------
        self : NFKTransformer
            The fitted transformer.
        """
        with restored_on_failure(self), together() as peers:
            self._fit(X, y, peers)
        return self

    def _fit(self, X, y, peers: Peers) -> None:
        X, setup, rank, random_state = self._prepared(X, y, peers)
        seed = peers.from_first(lambda: int(random_state.randint(np.iinfo(np.int32).max)))
        n_passes = 1 + most_sweeps(self.solver, self.max_sweeps, rank.most, rank.block_width)
        progress = Progress(self, X, y, n_passes)
        if self.memory is None:
            found = factorise(self, setup, X, rank, seed, progress)
        else:
            found = factorise_cached(self, setup, X, rank, seed, check_memory(self.memory), progress)
        progress.finish()
        self._store(setup, X, found.leading(rank.kept(found.singular_values, found.trace)))

    def transform(self, X, out=None):
        """Embed examples: Fisher vectors times the components.

        Cost: one pass over X.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), or what ``fit`` takes
            Examples, with rows as in ``fit``.
        out : ndarray of shape (n_samples, n_components_) or None, default=None
            Where to write the embedding batch by batch, such as a memory map for what
            does not fit in memory.

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
            The embedding, in numpy; under array API dispatch in X's namespace, on its device; or ``out``.
        """
        X = self._read_fitted(X, "transform")
        if out is not None:
            return self._write_embedding(X, out)
        return results_like(self._embedded(self._fisher_vectors(X)), X)

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _engine_option(self) -> str:
        # The paper's algorithm is one of JVPs and VJPs; any other engine is asked for by name.
        return "jvp" if self.solver == "paper" and self.engine == "auto" else self.engine

    def _set_up(self, X, y, peers=ALONE):
        check_gradient_cache(self.gradient_cache, self._engine_option())
        if self.checkpoint is not None and peers.leads:
            check_checkpoint(self.checkpoint, self.random_state)
        return super()._set_up(X, y, peers)

    def _store(self, setup, X, found: Factorisation) -> None:
        self._store_model(setup, X, found.mean_score, found.information, found.scale)
        n_rows = setup.n_rows_in_all(X)
        variance = found.singular_values.square() / n_rows
        total = found.trace / n_rows
        self.components_ = results_like(found.components.to(setup.dtype), X)
        self.singular_values_ = results_like(found.singular_values.to(setup.dtype), X)
        self.explained_variance_ = results_like(variance.to(setup.dtype), X)
        ratio = variance / total if total > 0 else torch.zeros_like(variance)
        self.explained_variance_ratio_ = results_like(ratio.to(setup.dtype), X)
        self.total_variance_ = total
        self.mean_shift_ = found.mean_shift
        self.n_components_ = len(found.singular_values)
        self.error_estimate_ = found.error_estimate
        self.n_sweeps_ = found.n_sweeps
        self.batch_size_ = found.batch_size
        self.solver_ = found.solver
        self._sketch_seed = found.sketch_seed
