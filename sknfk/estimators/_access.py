"""What a fitted NFKTransformer says of examples beside their embedding."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from .._products import long_product
from .._sklearn import to_tensor
from .._torch import exact_arithmetic
from ..distributed import Peers, together
from ..fisher import FisherVectorOperator, FisherVectors
from ..solvers import SparseSigns
from ._base import FisherEstimator
from ._course import require_one_fit
from ._explain import explain_fit
from ._plan import plan_fit, shrink_batches
from ._rank import resolve_rank
from ._rows import results_like, rows_of

__all__ = ["FisherAccess"]

# Bytes of components mapped from a file up to which they are read whole, and embed to the last bit as before saving.
READ_AT_ONCE = 2**26


class FisherAccess(FisherEstimator):
    """Fisher vectors, log-densities, what the components leave out, what a fit costs."""

    def explain(self, X, y=None):
        """Say what ``fit`` would do with X and what it would cost; fit nothing.

        Printed or in a notebook, it is a table: density and range of the model's
        outputs, engine, solver, cache, memory, predicted passes and seconds, and how
        the gradients of each parameter are held. Cost: two batches, and the training that ``model``
        asks for.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples, as for ``fit``.
        y : array-like of shape (n_samples,), default=None
            Targets, as for ``fit``.

        Returns
        -------
        Explanation
            The plan and its cost.
        """
        with together() as peers:
            X, setup, rank, _ = clone(self)._prepared(X, y, peers)
            plan = plan_fit(self, setup, setup.n_rows_in_all(X), rank)
            # A sketch reads each gradient once and multiplies it by a sign, as a product with one probe does.
            n_probes = 1 if plan.solver == "sketch" else rank.block_width + self.n_oversamples
            n_probes = min(n_probes, setup.parameters.n_parameters)
            return explain_fit(setup, plan, rows_of(X), rank.most, n_probes, self._reference_in_words(setup))

    def _prepared(self, X, y, peers: Peers):
        """Read X and resolve all that is decided before a fit: X, its setup, rank and random state."""
        X = self._read(X, reset=True, least=None if peers.is_alone else 0)
        peers = peers.with_rows(X.shape[0])
        setup, random_state = self._set_up(X, y, peers)
        n_rows = setup.n_rows_in_all(X)
        rank = resolve_rank(self, limit=min(n_rows, setup.parameters.n_parameters))
        if not peers.is_alone:
            require_one_fit(self, setup, X)
        return X, shrink_batches(self, setup, n_rows, rank), rank, random_state

    def score(self, X, y=None):
        """Return the share of the kernel's trace on X that the components capture.

        Cost: one pass over X.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        float
            Sum of ``||V_x P_K||^2`` over the sum of ``||V_x||^2``, at most 1.
        """
        captured, total = self._squared_lengths(self._read_fitted(X, "score"))
        return float(captured.sum() / total.sum().clamp_min(torch.finfo(total.dtype).tiny))

    def residual(self, X):
        """Return the squared length of each Fisher vector outside the components' span.

        Large where an example pulls on the model as no example of ``fit`` did: a
        score for outliers. Cost: one pass over X.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.

        Returns
        -------
        ndarray of shape (n_samples,)
            ``||V_x||^2 - ||V_x P_K||^2``.
        """
        X = self._read_fitted(X, "residual")
        captured, total = self._squared_lengths(X)
        return results_like((total - captured).clamp_min(0).to(self._work_dtype), X)

    def log_density(self, X):
        """Return the model's unnormalised log-density of each example.

        Cost: one forward pass over X.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.

        Returns
        -------
        ndarray of shape (n_samples,)
            Log-densities, in nats, up to a constant.
        """
        X = self._read_fitted(X, "log_density")
        setup = self._fitted_setup(X)
        with exact_arithmetic(setup.device), torch.no_grad():
            values = torch.cat([setup.log_density_model(x) for x in setup.batches(rows_of(X))])
        return results_like(values, X)

    def fisher_vectors(self, X):
        """Return the Fisher vectors themselves: for small models or few examples.

        Cost: one pass over X, and n_samples times n_parameters_ numbers.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.

        Returns
        -------
        ndarray of shape (n_samples, n_parameters_)
            One Fisher vector in each row.
        """
        X = self._read_fitted(X, "fisher_vectors")
        return results_like(self._fisher_vectors(X).rows(), X)

    def operator(self, X):
        """Return the matrix of Fisher vectors of X as a scipy linear operator.

        Each product costs one pass over X; ``.torch`` is the torch operator that
        stays on the device.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.

        Returns
        -------
        FisherVectorOperator of shape (n_samples, n_parameters_)
            The operator, for ``scipy.sparse.linalg``.
        """
        return FisherVectorOperator(self._fisher_vectors(self._read_fitted(X, "operator")))

    def truncate(self, n_components):
        """Return a fitted transformer with the first components of this one.

        Cost: none; arrays are shared.

        Parameters
        ----------
        n_components : int
            Number of components to keep, at most ``n_components_``.

        Returns
        -------
        NFKTransformer
            Fitted, with ``n_components`` components.
        """
        check_is_fitted(self)
        if not 1 <= n_components <= self.n_components_:
            raise ValueError(
                f"`n_components` must be between 1 and the fitted {self.n_components_}. Got {n_components}; "
                "fit with more components first."
            )
        truncated = clone(self).set_params(n_components=n_components)
        truncated.__dict__.update({k: v for k, v in vars(self).items() if k not in self.get_params(deep=False)})
        for name in ("components_", "singular_values_", "explained_variance_", "explained_variance_ratio_"):
            setattr(truncated, name, getattr(self, name)[:n_components])
        truncated.n_components_ = n_components
        return truncated

    def _embedded(self, vectors: FisherVectors) -> Tensor:
        """Return Fisher vectors times the components, (N, K), scaled."""
        embedding = self._unscaled(vectors)  # (N, K)
        if not bool(torch.isfinite(embedding).all()):
            raise ValueError(
                "The embedding must be finite. Gradients of some rows of X are NaN or infinite; "
                "check the scaling of X against that of the rows in fit."
            )
        return self._scaled(embedding)

    def _unscaled(self, vectors: FisherVectors) -> Tensor:
        """Return Fisher vectors times the components, (N, K), by the way that suits these."""
        signs = self._signs()
        if signs is not None:
            return vectors.sketch(signs, self._components(vectors).T)
        if isinstance(self.components_, np.memmap) and self.components_.nbytes > READ_AT_ONCE:
            return vectors.project(self.components_)
        return vectors.matmat(self._components(vectors).T)

    def _write_embedding(self, X, out: np.ndarray) -> np.ndarray:
        shape = (X.shape[0], self.n_components_)
        if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype.kind != "f" or not out.flags.writeable:
            got = f"{out.shape} of {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
            raise ValueError(
                f"`out` must be a writable floating array of shape {shape}. Got {got}; make one with "
                f"`numpy.lib.format.open_memmap(path, 'w+', dtype='float32', shape={shape})`."
            )
        vectors, step = self._fisher_vectors(X), self.batch_size_
        for start in range(0, shape[0], step):
            stop = min(start + step, shape[0])
            out[start:stop] = self._embedded(vectors.slice(start, stop)).cpu().numpy()
        return out

    def _squared_lengths(self, X) -> tuple[Tensor, Tensor]:
        """Return ||V_x P_K||^2 and ||V_x||^2, (N,) each in float64, from one pass; or of sketches."""
        vectors, signs = self._fisher_vectors(X), self._signs()
        components = self._components(vectors)
        captured, total = [], []
        with exact_arithmetic(vectors.device):
            for rows in vectors.row_blocks() if signs is None else vectors.sketch_blocks(signs):
                captured.append(long_product(rows, components.T).double().square().sum(1))
                total.append(rows.double().square().sum(1))
        return torch.cat(captured), torch.cat(total)

    def _signs(self) -> SparseSigns | None:
        """Return the matrix whose sketch the components are of, None where they are of the Fisher vectors."""
        seed = getattr(self, "_sketch_seed", None)  # an older file has none
        return None if seed is None else SparseSigns(self.n_parameters_, self.components_.shape[1], seed)

    def _components(self, vectors: FisherVectors) -> Tensor:
        return to_tensor(self.components_).to(device=vectors.device, dtype=vectors.dtype)

    def _scaled(self, embedding: Tensor) -> Tensor:
        """Apply ``whiten`` and ``normalize``."""
        if self.whiten:
            std = to_tensor(self.explained_variance_).to(embedding).sqrt()  # (K,)
            # Amplifying what is 1e-3 of the first would amplify the factorisation's error.
            floored = std.clamp_min(1e-3 * float(std[0]))
            embedding = torch.where(floored > 0, embedding / floored, 0.0)
        if self.normalize == "l2":
            norms = embedding.norm(dim=1, keepdim=True)
            embedding = torch.where(norms > 0, embedding / norms, 0.0)
        return embedding
