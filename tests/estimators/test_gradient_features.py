"""The classifier on activations and gradients, against explicit gradients."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNetClassifier
from torch import nn
from torch.func import functional_call, jacrev

from sknfk import GradientFeatureClassifier
from sknfk.estimators._setup import N_PROBE_ROWS
from sknfk.gradients import ParameterSpace, TangentModel, fold_batch_norms, topmost_layer

from ..cases import mlp, rows, seeded

C, N = 3, 40
# A quasi-Newton solver that stops at a gradient entry of 1e-10, problems with curvature 1e-2 and more.
OPTIMUM_ATOL = 1e-5


def backbone():
    """Four features; the last layer has 6 x 4 + 4 parameters."""
    return seeded(lambda: nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.Tanh()))


def convolutional():
    def build():
        net = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()
        )
        for layer in (net[1], net[4]):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
        return net

    return seeded(build)


def labels(n=N, n_classes=C):
    return np.arange(n) % n_classes


def classifier(model=None, **options):
    options = {"alpha": 1e-2, "tol": 1e-10, "max_iter": 2000, **options}
    return GradientFeatureClassifier(backbone() if model is None else model, **options)


def space_of(fitted):
    return ParameterSpace.named(fitted.module_, fitted.parameter_names_)


def explicit(module, names, X):
    """f (N, d) and J (N, d, P) by reverse mode, one parameter tensor after the other."""
    own = dict(module.named_parameters())
    values = {name: own[name].detach() for name in names}

    def features(values):
        return functional_call(module, values, (torch.from_numpy(X),)).flatten(1)

    J = jacrev(features)(values)
    f = features(values).detach()
    return f, torch.cat([part.detach().flatten(2) for part in J.values()], 2)


@pytest.mark.parametrize("parameters", ["2.*", "*", ["2.weight"], ["0.bias", "2.weight"]])
def test_the_change_is_the_directional_derivative(parameters):
    module, X = backbone().requires_grad_(False), rows(7)
    space = ParameterSpace.of(module, parameters)
    tangent = TangentModel(module, space)
    w = torch.randn(space.n_parameters, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    f, change = tangent.features_and_change(tangent.lowered(torch.from_numpy(X)), w)
    expected, J = explicit(module, space.names, X)
    torch.testing.assert_close(f, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(change, J @ w, rtol=1e-12, atol=1e-12)


def test_fine_tuning_differs_from_its_linear_model_by_the_square_of_the_step():
    module, X = backbone().requires_grad_(False), torch.from_numpy(rows(7))
    space = ParameterSpace.of(module, "*")
    tangent = TangentModel(module, space)
    w = torch.randn(space.n_parameters, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    f, change = tangent.features_and_change(tangent.lowered(X), w)
    values = space.values(module)

    def left(step):
        moved = {name: values[name] + step * part for name, part in space.split(w).items()}
        return float((functional_call(module, moved, (X,)) - f - step * change).norm())

    ratios = [left(step) / left(step / 2) for step in (1e-2, 1e-3, 1e-4)]
    np.testing.assert_allclose(ratios, 4, rtol=0.05)


def test_the_layers_below_are_split_off_and_computed_once():
    class Counting(nn.Linear):
        n_rows = 0

        def forward(self, x):
            Counting.n_rows += len(x)
            return super().forward(x)

    model = seeded(lambda: nn.Sequential(Counting(5, 6), nn.Tanh(), nn.Linear(6, 4)))
    found = classifier(model, batch_size=N).fit(rows(N), labels())
    assert found.n_iter_ > 2
    assert Counting.n_rows == N_PROBE_ROWS + N


class Whole(nn.Module):
    """The same layers, which no one can split."""

    def __init__(self):
        super().__init__()
        self.net = backbone()

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("options", [{}, {"loss": "squared_error"}, {"features": "gradient"}, {"ntk_scaling": True}])
def test_a_model_that_cannot_be_split_gives_the_same(options):
    chain = classifier(layers="2", **options).fit(rows(N), labels())
    whole = classifier(Whole(), layers="net.2", **options).fit(rows(N), labels())
    assert len(TangentModel(chain.module_, space_of(chain)).lower) == 2
    assert len(TangentModel(whole.module_, space_of(whole)).lower) == 0
    np.testing.assert_allclose(whole.decision_function(rows(9)), chain.decision_function(rows(9)), atol=1e-6)


def test_logits_are_those_of_explicit_features_at_any_weights():
    fitted = classifier(layers="*").fit(rows(N), labels())
    rng = np.random.default_rng(0)
    fitted.coef_, fitted.gradient_coef_ = rng.normal(size=fitted.coef_.shape), rng.normal(size=fitted.n_parameters_)
    X = rows(9)
    f, J = explicit(backbone(), fitted.parameter_names_, X)
    change = (J @ torch.from_numpy(fitted.gradient_coef_)).numpy()
    expected = f.numpy() @ fitted.coef_.T + fitted.intercept_ + change @ fitted.omega_.T
    np.testing.assert_allclose(fitted.decision_function(X), expected, atol=1e-10)


def design(fitted, X):
    """Features whose inner product with (W_1, b, v) gives the logits, (N C, C d + C + P), and what is penalised."""
    module = backbone()
    f, J = explicit(module, fitted.parameter_names_, X)
    if fitted.ntk_scaling:  # w_2 = scale v
        own = [dict(module.named_parameters())[name] for name in fitted.parameter_names_]
        entries = [len(p) ** -0.5 if p.ndim > 1 else 0.1**0.5 for p in own]
        J = J * torch.cat([torch.full((p.numel(),), entry) for p, entry in zip(own, entries, strict=True)])
    n, d = f.shape
    rotated = np.einsum("cd,ndp->ncp", fitted.omega_, J.numpy())  # (N, C, P)
    eye = np.eye(C)
    activations = np.einsum("ck,nd->nckd", eye, f.numpy()).reshape(n, C, C * d)
    intercepts = np.broadcast_to(eye, (n, C, C))
    if fitted.features == "gradient":
        activations = activations[:, :, :0]
    A = np.concatenate([activations, intercepts, rotated], axis=2).reshape(n * C, -1)
    penalised = np.ones(A.shape[1])
    penalised[activations.shape[2] : activations.shape[2] + C] = 0  # the intercepts
    return A, penalised


OPTIONS = [{}, {"features": "gradient"}, {"ntk_scaling": True}]


@pytest.mark.parametrize("options", OPTIONS)
def test_squared_errors_optimum_is_that_of_the_normal_equations(options):
    X, y = rows(N), labels()
    fitted = classifier(loss="squared_error", **options).fit(X, y)
    A, penalised = design(fitted, X)
    target = np.eye(C)[y].ravel()
    solution = np.linalg.solve(A.T @ A / N + 1e-2 * np.diag(penalised), A.T @ target / N)
    expected = (A @ solution).reshape(N, C)
    np.testing.assert_allclose(fitted.decision_function(X), expected, atol=OPTIMUM_ATOL)


def newton(A, y, penalised):
    """Minimise mean log-loss + alpha / 2 ||penalised weights||^2 over explicit features, with halved steps."""
    A, y, penalised = torch.from_numpy(A), torch.from_numpy(y), torch.from_numpy(penalised)

    def objective(w):
        loss = nn.functional.cross_entropy((A @ w).view(N, C), y)
        return loss + 0.5e-2 * (penalised * w.square()).sum()

    w = torch.zeros(A.shape[1], dtype=torch.float64)
    for _ in range(100):
        gradient = torch.autograd.functional.jacobian(objective, w)
        hessian = torch.autograd.functional.hessian(objective, w)
        # Adding one number to all intercepts changes nothing: the Hessian has no inverse.
        direction, step = -torch.linalg.pinv(hessian, hermitian=True) @ gradient, 1.0
        while objective(w + step * direction) > objective(w) and step > 1e-10:
            step /= 2
        w = w + step * direction
    assert gradient.abs().max() < 1e-10
    return (A @ w).view(N, C).numpy()


@pytest.mark.parametrize("options", OPTIONS)
def test_log_losss_optimum_is_that_of_explicit_features(options):
    X, y = rows(N), labels()
    fitted = classifier(**options).fit(X, y)
    A, penalised = design(fitted, X)
    found, expected = fitted.decision_function(X), newton(A, y, penalised)
    np.testing.assert_allclose(
        found - found.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), atol=OPTIMUM_ATOL
    )


def test_activations_alone_are_scikit_learns_classifier():
    X, y = rows(N), labels()
    fitted = classifier(features="activation").fit(X, y)
    f = explicit(backbone(), fitted.parameter_names_, X)[0].numpy()
    expected = LogisticRegression(C=1 / (1e-2 * N), tol=1e-10, max_iter=1000).fit(f, y)
    np.testing.assert_allclose(fitted.predict_proba(X), expected.predict_proba(f), atol=1e-8)
    assert not fitted.gradient_coef_.any()


def test_the_gradient_term_alone_has_no_activations():
    assert not classifier(features="gradient").fit(rows(N), labels()).coef_.any()


def test_stochastic_steps_come_close_to_the_optimum():
    X, y = rows(200), labels(200)
    exact = classifier().fit(X, y)
    found = classifier(solver="adam", max_iter=200, learning_rate=0.03, batch_size=32, random_state=0).fit(X, y)
    assert np.abs(found.predict_proba(X) - exact.predict_proba(X)).max() < 0.05
    assert found.n_iter_ == 200


def test_two_classes_have_one_decision():
    X, y = rows(N), labels(n_classes=2)
    fitted = classifier().fit(X, np.array(["no", "yes"])[y])
    assert fitted.decision_function(X).shape == (N,)
    np.testing.assert_array_equal(fitted.predict(X) == "yes", fitted.decision_function(X) > 0)


def test_folded_batch_normalisation_keeps_the_features_and_moves_their_gradients():
    X, y = rows(N, 1, 8, 8), labels()
    plain, folded = (classifier(convolutional(), layers="3", fold_batch_norm=fold).fit(X, y) for fold in (False, True))
    with torch.no_grad():
        x = torch.from_numpy(X)
        torch.testing.assert_close(folded.module_(x), plain.module_(x))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.module_.modules())
    assert np.abs(folded.decision_function(X) - plain.decision_function(X)).max() > 1e-6


class Residual(nn.Module):
    """A block that works in place."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x):
        return torch.relu_(x + self.second(torch.relu_(self.norm(self.first(x)))))


def residual():
    """A chain in a chain: a stem, a stage of two blocks, pooling."""
    stem = lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True))  # noqa: E731
    return seeded(lambda: nn.Sequential(stem(), nn.Sequential(Residual(), Residual()), nn.AvgPool2d(6)))


def test_the_topmost_block_is_found_and_all_below_it_is_kept():
    model = residual()
    fitted = classifier(model, max_iter=20, tol=1e-3).fit(rows(N, 1, 8, 8), labels())
    assert topmost_layer(model) == "1.1"
    assert all(name.startswith("1.1.") for name in fitted.parameter_names_)
    tangent = TangentModel(fitted.module_, space_of(fitted))
    assert [name for name, _ in tangent.lower.named_children()] == ["0", "1"]
    assert len(tangent.lower.get_submodule("1")) == 1


@pytest.mark.parametrize("build", [convolutional, residual])
def test_folding_keeps_the_function_and_leaves_no_normalisation(build):
    plain, folded, x = build(), build(), torch.from_numpy(rows(7, 1, 8, 8))
    fold_batch_norms(folded)
    torch.testing.assert_close(folded(x), plain(x))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded.modules())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in plain.modules())


def test_a_normalisation_whose_layer_is_read_elsewhere_stays():
    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.norm = nn.Linear(5, 4), nn.BatchNorm1d(4)

        def forward(self, x):
            h = self.layer(x)
            return h + self.norm(h)

    model = seeded(Forked)
    fold_batch_norms(model)
    assert isinstance(model.norm, nn.BatchNorm1d)


def test_a_folded_classifier_survives_pickling():
    X = rows(N, 1, 8, 8)
    fitted = classifier(convolutional(), fold_batch_norm=True, max_iter=20, tol=1e-3).fit(X, labels())
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(X), fitted.predict_proba(X))


def test_squared_errors_have_no_probabilities():
    fitted = classifier(loss="squared_error").fit(rows(N), labels())
    assert not hasattr(fitted, "predict_proba")
    assert fitted.predict(rows(9)).shape == (9,)


def test_a_skorch_net_is_trained_and_a_text_label_comes_back():
    net = NeuralNetClassifier(mlp(5, 3).float(), criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0)
    y = np.array(["a", "b", "c"])[labels()]
    fitted = classifier(net, max_iter=20, tol=1e-2, random_state=0).fit(rows(N), y)
    assert set(fitted.predict(rows(9))) <= {"a", "b", "c"}


def test_labels_of_another_byte_order_come_back():
    y = np.array([-1, 3, 5])[labels()]
    options = {"max_iter": 20, "tol": 1e-2, "random_state": 0}
    found, expected = (classifier(**options).fit(rows(N), given) for given in (y.astype(">i8"), y))
    np.testing.assert_array_equal(found.predict(rows(9)), expected.predict(rows(9)))


def test_the_callers_model_stays_as_it_was():
    model = backbone().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    classifier(model).fit(rows(N), labels())
    assert model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name])


class Branching(nn.Sequential):
    """The backbone, with a branch on a value, where torch.fx cannot follow."""

    def __init__(self):
        super().__init__(*backbone())

    def forward(self, x):
        return super().forward(x) if x.sum() < torch.inf else x


REFUSED = {
    "an unknown layer": ({"layers": "20"}, labels(), "'20' matches none; near names are '2', '0'"),
    "a layer without parameters": ({"layers": "3"}, labels(), "`layers` must name layers .* have parameters"),
    "no layer": ({"layers": []}, labels(), "at least one layer"),
    "a model that cannot be traced": ({"fold_batch_norm": True}, labels(), "must be False for a model that torch.fx"),
    "one class": ({}, np.zeros(N), "at least two classes. Got 1 class"),
    "a continuous target": ({}, np.linspace(0, 1, N), "Unknown label type"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_gets_one_clear_sentence(name):
    options, y, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        classifier(Branching(), **options).fit(rows(N), y)


def test_a_solver_that_stopped_early_says_so():
    with pytest.warns(ConvergenceWarning, match="stopped after max_iter=1 steps"):
        classifier(max_iter=1).fit(rows(N), labels())


def test_flat_rows_for_a_convolution_are_refused_in_words_and_taken_with_input_shape():
    X, y = rows(N, 1, 8, 8), labels()
    with pytest.raises(ValueError, match=r"must accept rows of shape \(64,\).*reshape rows with `input_shape`"):
        classifier(convolutional()).fit(X.reshape(N, 64), y)
    fitted = classifier(convolutional(), input_shape=(1, 8, 8), features="activation").fit(X.reshape(N, 64), y)
    assert fitted.predict(X.reshape(N, 64)).shape == (N,)


def test_rows_of_other_axes_than_in_fit_are_refused_by_their_shape():
    fitted = classifier(convolutional(), features="activation").fit(rows(N, 1, 8, 8), labels())
    with pytest.raises(ValueError, match=r"rows of shape \(1, 8, 8\), as in fit. Got \(64,\)"):
        fitted.predict(rows(N, 64))
