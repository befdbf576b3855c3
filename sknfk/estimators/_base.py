"""What NFKTransformer and NFKernel share: reading X, the model, its statistics."""

from __future__ import annotations

import warnings
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import (
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    is_classifier,
    is_regressor,
)
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted, check_memory, validate_data
from skorch import NeuralNet
from torch import Tensor, nn

from .._sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    check_same_namespace,
    readable,
    to_host,
    to_tensor,
)
from .._threads import sharing_copy
from .._torch import exact_arithmetic, warn_of_a_shared_gpu
from ..batches import BatchDigests, Batches, Feed, as_feed
from ..densities import DENSITIES, Density, Output
from ..distributed import ALONE, Peers
from ..fisher import (
    FisherStatistics,
    FisherVectors,
    GradientCache,
    Moments,
    RangeSample,
    Watch,
    estimate_moments,
    estimate_statistics,
)
from ..gradients import ENGINES, LogDensityModel, ParameterSpace, make_engine
from ._models import ModelSharingEstimator, is_made_here
from ._rows import results_like, rows_of, unpacker
from ._setup import N_PROBE_ROWS, Setup, set_up

__all__ = ["FisherEstimator"]


class FisherEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ModelSharingEstimator):
    """Base of the estimators that see X through a model's Fisher vectors."""

    _parameter_constraints: dict = {
        "model": [nn.Module, callable, HasMethods(["fit", "get_params"]), None],
        "density": [StrOptions({"auto", *DENSITIES}), Density, callable],
        "parameters": [None, str, list, tuple, callable],
        "fisher": [StrOptions({"diag", "factored", "identity"})],
        "center": ["boolean"],
        "statistics": [StrOptions({"auto", "data", "model"}), "array-like"],
        "n_reference": [Interval(Integral, 2, None, closed="left")],
        "damping": [Interval(Real, 0, None, closed="left")],
        "normalize": [StrOptions({"l2"}), None],
        "input_shape": [tuple, list, None],
        "engine": [StrOptions({"auto", *ENGINES})],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_memory": [Interval(Real, 0, None, closed="neither"), None],
        "device": [str, torch.device],
        "dtype": [StrOptions({"auto", "float32", "float64"})],
        "random_state": ["random_state"],
    }

    def __sklearn_tags__(self):
        """Say what scikit-learn may ask of this estimator."""
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.input_tags.three_d_array = True
        tags.target_tags.required = isinstance(self.model, NeuralNet) and (
            is_classifier(self.model) or is_regressor(self.model)
        )
        tags.transformer_tags.preserves_dtype = self._preserved_dtypes()
        return tags

    def _preserved_dtypes(self) -> list[str]:
        if self.dtype != "auto":
            return []
        if is_made_here(self.model):
            return ["float64", "float32"]
        is_double = isinstance(self.model, nn.Module) and any(p.dtype == torch.float64 for p in self.model.parameters())
        return ["float64"] if is_double else []

    def _engine_option(self) -> str:
        return self.engine

    def _read(self, X: Any, *, reset: bool, least: int | None = None) -> Any:
        """Validate X, once and at the door; it stays in its namespace, or becomes a feed.

        It must have ``least`` rows; None is 2 for a fit, else 1.
        """
        least = (2 if reset else 1) if least is None else least
        feed = as_feed(X)
        if feed is not None:
            return self._read_feed(feed, reset, least)
        return validate_data(self, readable(X), reset=reset, allow_nd=True, ensure_min_samples=least, dtype="numeric")

    def _read_feed(self, feed: Feed, reset: bool, least: int) -> Feed:
        if reset:
            if len(feed) < least:
                raise ValueError("X must have at least 2 rows to fit. Got 1 sample; pass more.")
            if feed.source.is_read_anew:  # gradients may be kept, and X not read again
                digests = BatchDigests()
                for _ in range(2):
                    digests.see(0, feed[:N_PROBE_ROWS])
            for name in ("n_features_in_", "feature_names_in_"):  # of an earlier fit
                if name in vars(self):
                    delattr(self, name)
        return feed

    def _set_up(self, X: Any, y: Any, peers: Peers = ALONE) -> tuple[Setup, np.random.RandomState]:
        """Resolve the options that concern the model, and check the model."""
        random_state = check_random_state(self.random_state)
        target = None if y is None else np.asarray(to_host(y))
        if target is not None:
            check_consistent_length(X, target)
        setup, reason = set_up(
            self.model,
            rows_of(X),
            target,
            density=self.density,
            parameters=self.parameters,
            input_shape=self.input_shape,
            engine=self._engine_option(),
            batch_size=self.batch_size,
            max_memory=self.max_memory,
            device=str(self.device),
            dtype=self.dtype,
            seed=peers.from_first(lambda: int(random_state.randint(np.iinfo(np.int32).max))),
            memory=check_memory(getattr(self, "memory", None)),
            peers=peers,
        )
        warn_of_a_shared_gpu(setup.device.type)
        if self.density == "auto" and type(setup.density) is Output:
            warnings.warn(reason, UserWarning, stacklevel=3)
        if self._from_model(setup):
            setup.samples(2)  # what is refused is refused now
            setup = replace(setup, n_reference=self.n_reference)
        elif not isinstance(self.statistics, str):
            self._reference_rows(setup)
        return setup, random_state

    def _from_model(self, setup: Setup) -> bool:
        """Whether statistics are over samples of the model."""
        if not isinstance(self.statistics, str) or self.statistics == "data":
            return False
        return self.statistics == "model" or (setup.density.sampling == "exact" and setup.unpack is None)

    def _reference_rows(self, setup: Setup) -> Any:
        """Return the rows given for the statistics, which must be as those of X."""
        rows = to_host(check_array(readable(self.statistics), allow_nd=True, input_name="statistics"))
        setup.rows_as.check(rows, "`statistics`")
        return rows

    def _reference_in_words(self, setup: Setup) -> str:
        """Say what the statistics are over."""
        if setup.n_reference:
            return f"{setup.n_reference} samples of the model"
        return "X" if isinstance(self.statistics, str) else f"the {len(self.statistics)} rows given"

    def _estimate(
        self,
        setup: Setup,
        batches: Batches,
        sample: RangeSample | None = None,
        cache: GradientCache | None = None,
        watch: Watch | None = None,
    ) -> tuple[FisherStatistics, Tensor, Moments]:
        """Estimate the statistics; return them, the scale D and X's own moments.

        ``sample`` gathers from the gradients of X on the way, and ``cache`` keeps them.
        """
        with exact_arithmetic(setup.device):
            moments = estimate_moments(setup.engine, batches, setup.parameters, sample, cache, watch)
            reference = moments
            if setup.n_reference:
                samples = setup.samples(setup.n_reference).share(setup.peers)
                reference = estimate_moments(setup.engine, samples, setup.parameters)
            elif not isinstance(self.statistics, str):
                given = setup.batches(self._reference_rows(setup)).share(setup.peers)
                reference = estimate_moments(setup.engine, given, setup.parameters)
        statistics = estimate_statistics(reference, center=self.center)
        scale = statistics.scale(self.fisher, self.damping, setup.parameters)
        if not bool(scale.any()):
            warnings.warn(
                f"All {setup.parameters.n_parameters} parameters have the same gradient for every reference row, so "
                "Fisher vectors are zero; check that the rows differ and that the model's output depends on them.",
                UserWarning,
                stacklevel=4,
            )
        return statistics, scale, moments

    def _store_model(self, setup: Setup, X: Any, mean_score: Tensor, information: Tensor, scale: Tensor) -> None:
        """Set the fitted attributes that describe the model; arrays follow X."""
        self.module_ = setup.module
        self.density_ = setup.density
        self.engine_ = setup.engine.name
        self._forming = setup.engine.forming
        self._decided = setup.engine.decided
        self.batch_size_ = setup.batch_size
        self.parameter_names_ = list(setup.parameters.names)
        self.n_parameters_ = setup.parameters.n_parameters
        self.mean_score_ = results_like(mean_score, X)
        self.information_ = results_like(information, X)
        self.scale_ = results_like(scale, X)
        self.dead_fraction_ = float((information == 0).double().mean())
        self._rows_as = setup.rows_as
        self._work_dtype = setup.dtype

    def _fitted_setup(self, X: Any) -> Setup:
        """Return the fitted model, ready to give gradients of validated rows in a thread of its own."""
        module = sharing_copy(self.module_)
        unpack = unpacker(rows_of(X), self._work_dtype)
        parameters = ParameterSpace.named(module, self.parameter_names_)
        log_density_model = LogDensityModel(module, self.density_, parameters, unpack)
        return Setup(
            module,
            self.density_,
            parameters,
            make_engine(self.engine_, log_density_model, forming=self._forming, decided=self._decided),
            self._rows_as,
            self.batch_size_,
            self._work_dtype,
            unpack=unpack,
        )

    def _read_fitted(self, X: Any, method: str) -> Any:
        """Validate X for a method of the fitted estimator."""
        check_is_fitted(self)
        feed = X if isinstance(X, Feed) else as_feed(X)
        if feed is not None:
            X = feed
        else:
            check_same_namespace(X, self, attribute="mean_score_", method=method)
            self._rows_as.check_axes(X)
            X = self._read(X, reset=False)
        self._rows_as.check(rows_of(X))
        return X

    def _fisher_vectors(self, X: Any) -> FisherVectors:
        """Return the Fisher vectors of validated rows, as a torch operator."""
        setup = self._fitted_setup(X)
        mean_score, scale = (to_tensor(a).to(setup.device) for a in (self.mean_score_, self.scale_))
        return FisherVectors(setup.engine, setup.batches(rows_of(X)), mean_score, scale, setup.dtype)
