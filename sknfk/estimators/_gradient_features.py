"""GradientFeatureClassifier: linear in activations and in gradients, which are never formed."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelEncoder
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_memory, validate_data
from torch import Tensor, nn

from .._sklearn import (
    HasMethods,
    Interval,
    StrOptions,
    array_like,
    check_same_namespace,
    fit_context,
    readable,
    restored_on_failure,
    to_host,
    to_tensor,
)
from .._threads import sharing_copy
from .._torch import compute_dtype, evaluation_copy, exact_arithmetic, plain_module, resolve_device, validate_module
from ..gradients import ParameterSpace, TangentModel, fold_batch_norms, topmost_layer
from ._gradient_problem import GradientProblem, LinearModel, fit_linear
from ._models import ModelSharingEstimator, is_made_here, resolve_module
from ._rows import example_shape, row_format
from ._setup import N_PROBE_ROWS, try_module

__all__ = ["GradientFeatureClassifier"]

N_HIDDEN = 32  # of the network that model=None stands for


class GradientFeatureClassifier(ClassifierMixin, ModelSharingEstimator):
    """Classify by a model's activations and by the gradients of its upper layers.

    The first-order Taylor expansion of fine-tuning [1]_. With features f(x) of the
    model, theta_2 the parameters of its upper layers, J(x) the derivative of f by them
    and Omega a linear classifier on f that is fitted first,

        logits(x) = W_1 f(x) + b + Omega (J(x) w_2),

    where W_1, b and w_2 are learned: w_2 is one direction in theta_2, shared by the
    classes. J(x) w_2 is one forward-mode pass, so that no gradient is ever formed. The
    problem is convex.

    Cost of ``fit``: one forward pass of the layers below theta_2, whose results for all
    rows are kept where the model is an ``nn.Sequential`` (else X is, and every pass goes
    through all layers); then, for each pass over X, a forward-mode pass of the upper
    layers and its backward pass: about twice what fine-tuning theta_2 costs. Of
    ``predict``: one forward-mode pass.

    Parameters
    ----------
    model : Module, factory class, skorch net, FrozenEstimator or None, default=None
        What gives the features f, flattened: a backbone without its head. A module is
        only read. None is a small network with random weights, a convenience.
    layers : str or list of str, default="auto"
        theta_2: the parameters of these layers or blocks, by their names in
        ``model.named_modules()`` or patterns of them. "auto" takes the topmost, the
        last child with a matrix of weights; chains of layers are looked into.
    features : {"full", "gradient", "activation"}, default="full"
        Which of the two terms: "gradient" leaves out W_1, "activation" w_2.
    loss : {"log_loss", "squared_error"}, default="log_loss"
        Of the logits; "squared_error" is half the squared distance to one-hot targets.
    alpha : float, default=1e-3
        L2 penalty: alpha / 2 times the squares of W_1 and w_2, beside the mean loss.
    ntk_scaling : bool, default=False
        Whether w_2 counts in the penalty and in the steps as in the neural tangent
        parametrisation: it is 1 / sqrt(outputs) times what is learned for weights,
        sqrt(0.1) times for biases.
    fold_batch_norm : bool, default=False
        Whether each batch normalisation is first folded into the layer before it, so
        that its scale is part of that layer's weights; ``torch.fx`` must be able to
        trace the model.
    solver : {"lbfgs", "adam"}, default="lbfgs"
        "lbfgs" takes all rows for each step and ends at the optimum, for small data;
        "adam" takes a batch and ends near it.
    max_iter : int, default=200
        Steps of "lbfgs", passes over X of "adam".
    tol : float, default=1e-4
        "lbfgs" stops where no entry of the gradient is larger.
    learning_rate : float, default=1e-3
        Of "adam"; it is halved four times on the way.
    batch_size : int, default=128
        Rows at once; with "adam", rows of a step.
    input_shape : tuple of int or None, default=None
        Shape of one example for the model, where X has flat rows.
    device : str, default="auto"
        As for ``NFKTransformer``.
    dtype : {"auto", "float32", "float64"}, default="auto"
        As for ``NFKTransformer``.
    random_state : int, RandomState instance or None, default=None
        Seeds models that are made here, and the batches of "adam".

    Attributes
    ----------
    coef_ : ndarray of shape (n_classes, n_activations)
        W_1; zero for "gradient".
    intercept_ : ndarray of shape (n_classes,)
        b.
    gradient_coef_ : ndarray of shape (n_parameters_,)
        w_2, scaled; zero for "activation".
    omega_ : ndarray of shape (n_classes, n_activations)
        Omega.
    parameter_names_ : list of str
        Names of the parameters in theta_2.
    n_parameters_ : int
        Number of their entries.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_iter_ : int
        Steps of "lbfgs", passes of "adam"; 1 for "activation".
    module_ : Module
        The fit's own copy of the model, in eval mode.
    n_features_in_ : int
        The second axis of X.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features, where X has them.

    See Also
    --------
    NFKTransformer : Features from the gradients of all parameters.

    Notes
    -----
    With ``w_2`` restricted to the span of K directions this is a linear probe on K
    gradient features; here all of theta_2 is free.

    References
    ----------
    .. [1] Mu, Liang, Li. "Gradients as features for deep representation learning", ICLR
       2020.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sknfk import GradientFeatureClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = GradientFeatureClassifier(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> classifier.score(X[1000:] / 16, y[1000:]) > 0.85
    True
    """

    _parameter_constraints: dict = {
        "model": [nn.Module, callable, HasMethods(["fit", "get_params"]), None],
        "layers": [str, list, tuple],
        "features": [StrOptions({"full", "gradient", "activation"})],
        "loss": [StrOptions({"log_loss", "squared_error"})],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "ntk_scaling": ["boolean"],
        "fold_batch_norm": ["boolean"],
        "solver": [StrOptions({"lbfgs", "adam"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "input_shape": [tuple, list, None],
        "device": [str, torch.device],
        "dtype": [StrOptions({"auto", "float32", "float64"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        model=None,
        *,
        layers="auto",
        features="full",
        loss="log_loss",
        alpha=1e-3,
        ntk_scaling=False,
        fold_batch_norm=False,
        solver="lbfgs",
        max_iter=200,
        tol=1e-4,
        learning_rate=1e-3,
        batch_size=128,
        input_shape=None,
        device="auto",
        dtype="auto",
        random_state=None,
    ):
        self.model = model
        self.layers = layers
        self.features = features
        self.loss = loss
        self.alpha = alpha
        self.ntk_scaling = ntk_scaling
        self.fold_batch_norm = fold_batch_norm
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.input_shape = input_shape
        self.device = device
        self.dtype = dtype
        self.random_state = random_state

    def __sklearn_tags__(self):
        """Say what scikit-learn may ask of this estimator."""
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.input_tags.three_d_array = True
        return tags

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y):
        """Fit Omega, then W_1, b and w_2.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.
        y : array-like of shape (n_samples,)
            Classes.

        Returns
        -------
        self : GradientFeatureClassifier
            The fitted classifier.
        """
        with restored_on_failure(self):
            self._fit(X, y)
        return self

    def _fit(self, X, y) -> None:
        X, y = validate_data(self, readable(X), to_host(y), allow_nd=True, dtype="numeric", ensure_min_samples=2)
        y = np.asarray(to_host(y))
        check_classification_targets(y)
        encoder = LabelEncoder().fit(y)
        if len(encoder.classes_) < 2:
            raise ValueError(
                f"y must have at least two classes. Got 1 class, {encoder.classes_[0]!r}; pass more labels."
            )
        labels, self.classes_ = encoder.transform(y), encoder.classes_
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        tangent = self._set_up(to_host(X), labels, seed)
        device = next(self.module_.parameters()).device
        with exact_arithmetic(device):
            batches = self._rows_as.batches(to_host(X), self.batch_size, device)
            lowered = torch.cat([tangent.lowered(x) for x in batches])  # (N, ...)
            found = self._learn(tangent, lowered, labels, seed)
        w2 = torch.zeros(self.n_parameters_).to(found.w1) if found.w2 is None else found.w2
        self.coef_, self.intercept_, self.gradient_coef_, self.omega_ = (
            array_like(weight, X) for weight in (found.w1, found.b, w2, found.omega)
        )

    def _set_up(self, rows: Any, labels: np.ndarray, seed: int) -> TangentModel:
        """Resolve the options that concern the model."""
        wanted = example_shape(rows, self.input_shape)
        assert wanted is not None  # X is an array
        made = torch.float32 if str(rows.dtype).endswith(("float32", "f4")) else torch.float64
        made = made if self.dtype == "auto" else compute_dtype(self.dtype, nn.Identity())
        model = RandomBackbone if self.model is None else self.model
        shaped = rows.reshape(len(rows), *wanted)
        module = plain_module(resolve_module(model, shaped, labels, seed, check_memory(None), made))
        validate_module(module)
        device = resolve_device(str(self.device), module)
        dtype = made if is_made_here(self.model) else compute_dtype(self.dtype, module)
        self.module_ = evaluation_copy(module, device, dtype)
        with exact_arithmetic(device):
            self._rows_as = row_format(rows, wanted, self.module_, dtype)
            try_module(self.module_, self._rows_as.batches(rows, N_PROBE_ROWS, device).head(N_PROBE_ROWS))
        if self.fold_batch_norm:
            fold_batch_norms(self.module_)
        layers = topmost_layer(self.module_) if self.layers == "auto" else self.layers
        space = ParameterSpace.of_layers(self.module_, layers)
        self.parameter_names_, self.n_parameters_ = list(space.names), space.n_parameters
        return TangentModel(self.module_, space)

    def _learn(self, tangent: TangentModel, lowered: Tensor, labels: np.ndarray, seed: int) -> LinearModel:
        """Fit Omega, then what ``features`` asks for."""
        activations = torch.cat([tangent.features(z) for z in lowered.split(self.batch_size)])  # (N, d)
        _refuse_nonfinite(activations)
        omega, intercept = fit_linear(activations, labels, self.loss, self.alpha, self.tol)
        start = LinearModel(omega, intercept, None, omega)
        if self.features == "activation":
            self.n_iter_ = 1
            return start
        problem = GradientProblem(
            tangent,
            lowered,
            torch.from_numpy(labels).to(lowered.device),
            start,
            gradient_alone=self.features == "gradient",
            loss=self.loss,
            alpha=self.alpha,
            ntk_scaling=self.ntk_scaling,
        )
        if self.solver == "lbfgs":
            self.n_iter_ = problem.minimise(self.batch_size, self.max_iter, self.tol)
        else:
            self.n_iter_ = problem.descend(self.batch_size, self.max_iter, self.learning_rate, seed)
        return problem.solution()

    def decision_function(self, X):
        """Return the logits; for two classes, their difference.

        Cost: one forward-mode pass.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes) or (n_samples,)
            Logits.
        """
        logits = self._logits(X, "decision_function")
        return array_like(logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits, X)

    @available_if(lambda self: self.loss == "log_loss")
    def predict_proba(self, X):
        """Return class probabilities, the softmax of the logits, for ``loss="log_loss"``.

        Cost: one forward-mode pass.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities.
        """
        return array_like(torch.softmax(self._logits(X, "predict_proba"), dim=1), X)

    def predict(self, X):
        """Return the class of the largest logit.

        Cost: one forward-mode pass.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Examples.

        Returns
        -------
        ndarray of shape (n_samples,)
            Classes.
        """
        codes = self._logits(X, "predict").argmax(1)
        found = self.classes_[codes.cpu().numpy()]
        return found if found.dtype.kind in "OSU" else array_like(to_tensor(found), X)

    def _logits(self, X, method: str) -> Tensor:
        check_is_fitted(self)
        check_same_namespace(X, self, attribute="coef_", method=method)
        self._rows_as.check_axes(X)
        X = validate_data(self, readable(X), reset=False, allow_nd=True, dtype="numeric")
        module = sharing_copy(self.module_)  # of this thread alone
        tangent = TangentModel(module, ParameterSpace.named(module, self.parameter_names_))
        device = next(module.parameters()).device
        w1, b, w2, omega = (
            to_tensor(weight).to(device) for weight in (self.coef_, self.intercept_, self.gradient_coef_, self.omega_)
        )
        model = LinearModel(w1, b, w2 if bool(w2.any()) else None, omega)
        with exact_arithmetic(device), torch.no_grad():
            batches = self._rows_as.batches(to_host(X), self.batch_size, device)
            logits = torch.cat([model.logits(tangent, tangent.lowered(x)) for x in batches])
        _refuse_nonfinite(logits)
        return logits


class RandomBackbone(nn.Module):
    """Features by random weights: what ``model=None`` stands for."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_features, N_HIDDEN), nn.Tanh(), nn.Linear(N_HIDDEN, N_HIDDEN), nn.Tanh()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features, (B, 32)."""
        return self.layers(x.flatten(1))


def _refuse_nonfinite(values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise ValueError("The model's output must be finite. It is NaN or infinite for some rows; check X's scaling.")
