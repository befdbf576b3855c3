"""Libraries that others wrote, and closed forms, against ours."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler
from torch import nn

from sknfk import NFKernel, NFKTransformer
from sknfk.batches import Batches
from sknfk.densities import Classifier
from sknfk.fisher import FisherVectors
from sknfk.gradients import LogDensityModel, ParameterSpace, make_engine

from ..cases import FLOAT64_RTOL, attention, convnet, mlp, recurrent, rows, seeded, tied
from .measures import relative

N_COLUMNS = 3


class FreeEnergy(nn.Module):
    """A classifier's log-density as a module with one output column."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return torch.logsumexp(self.model(x), dim=1, keepdim=True)


def random_matrix(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# ---------------------------------------------------------------- curvlinops: J M and J^T M

CURVLINOPS_MODELS = {
    "mlp": lambda: (mlp(), rows(9)),
    "convnet": lambda: (convnet(), rows(9, 1, 8, 8)),
    "tied": lambda: (tied(), rows(9)),
    "attention": lambda: (attention(), rows(9)),
    "recurrent": lambda: (recurrent(), rows(9)),
}


# torch has no batching rule for an LSTM.
ENGINES_OF_MODELS = [
    (name, engine)
    for name in CURVLINOPS_MODELS
    for engine in ("vmap", "loop", "jvp")
    if (name, engine) != ("recurrent", "vmap")
]


def model_rows_and_jacobian(name):
    """A model, its rows X, and curvlinops's Jacobian (N, P) of its log-density, by batches of 4."""
    curvlinops = pytest.importorskip("curvlinops", reason="curvlinops 3.0.1 is the oracle of Jacobian products")
    model, X = CURVLINOPS_MODELS[name]()
    x, module = torch.from_numpy(X), FreeEnergy(model)
    batches = [(part, torch.zeros(len(part), 1, dtype=torch.float64)) for part in x.split(4)]
    return model, X, curvlinops.JacobianLinearOperator(module, list(module.parameters()), batches)


@pytest.mark.parametrize("name, engine", ENGINES_OF_MODELS)
def test_products_with_the_gradients_are_those_of_curvlinops(name, engine):
    model, X, jacobian = model_rows_and_jacobian(name)
    space = ParameterSpace.of(model)
    zero, one = (f(space.n_parameters, dtype=torch.float64) for f in (torch.zeros, torch.ones))
    vectors = FisherVectors(
        make_engine(engine, LogDensityModel(model, Classifier(), space)),
        Batches(X, 5, torch.device("cpu"), torch.float64, X.shape[1:]),
        mean_score=zero,
        scale=one,
        dtype=torch.float64,
    )
    W, Y = random_matrix(space.n_parameters, N_COLUMNS), random_matrix(len(X), N_COLUMNS)
    assert relative(vectors.matmat(W), (jacobian @ W).detach()) < FLOAT64_RTOL
    assert relative(vectors.rmatmat(Y), (jacobian.adjoint() @ Y).detach()) < FLOAT64_RTOL


@pytest.mark.parametrize("name", CURVLINOPS_MODELS)
def test_products_with_the_fisher_vectors_are_those_of_curvlinops_centred_and_scaled(name):
    model, X, jacobian = model_rows_and_jacobian(name)
    # About the mean score of X itself, 1^T V = 0 would hide a wrong term; these rows are others.
    reference = X[:5] + 0.5
    nfk = NFKTransformer(model, 2, statistics=reference, random_state=0).fit(X)
    vectors = nfk.operator(X).torch
    W, Y = random_matrix(vectors.shape[1], N_COLUMNS), random_matrix(len(X), N_COLUMNS)
    z, D = torch.from_numpy(nfk.mean_score_)[:, None], torch.from_numpy(nfk.scale_)[:, None]  # (P, 1)

    def product(W):
        return (jacobian @ (D * W)).detach() - z.T @ (D * W)

    def adjoint_product(Y):
        return D * ((jacobian.adjoint() @ Y).detach() - z @ Y.sum(0, keepdim=True))

    assert relative(vectors.matmat(W), product(W)) < FLOAT64_RTOL
    assert relative(vectors.rmatmat(Y), adjoint_product(Y)) < FLOAT64_RTOL
    gram, swept = vectors.sweep(W)
    assert relative(gram, product(W).T @ product(W)) < FLOAT64_RTOL
    assert relative(swept, adjoint_product(product(W))) < FLOAT64_RTOL


@pytest.mark.parametrize("name", CURVLINOPS_MODELS)
def test_mean_score_is_the_mean_gradient_of_curvlinops(name):
    model, X, jacobian = model_rows_and_jacobian(name)
    every = torch.ones(len(X), 1, dtype=torch.float64)
    nfk = NFKTransformer(model, 2, random_state=0).fit(X)
    assert relative(nfk.mean_score_, (jacobian.adjoint() @ every).detach()[:, 0] / len(X)) < FLOAT64_RTOL


# ---------------------------------------------------------------- BackPACK: rows and variances

BACKPACK_MODELS = {"mlp": lambda: (mlp(), rows(12)), "convnet": lambda: (convnet(), rows(12, 1, 8, 8))}


@pytest.fixture(params=BACKPACK_MODELS)
def model_rows_and_backpack(request):
    """A model, its rows X, and BackPACK's gradients (N, P) and variances (P,)."""
    backpack = pytest.importorskip("backpack", reason="BackPACK 1.7.1 is the oracle of per-example gradients")
    extensions = pytest.importorskip("backpack.extensions", reason="BackPACK 1.7.1")
    model, X = BACKPACK_MODELS[request.param]()
    extended = backpack.extend(BACKPACK_MODELS[request.param]()[0])
    # A sum over rows: for a mean, BackPACK's gradients would be those of f / N and its variances 1 / N^2 of these.
    with backpack.backpack(extensions.BatchGrad(), extensions.Variance()):
        torch.logsumexp(extended(torch.from_numpy(X).requires_grad_()), dim=1).sum().backward()
    gradients = torch.cat([p.grad_batch.flatten(1) for p in extended.parameters()], dim=1)
    return model, X, gradients.numpy(), torch.cat([p.variance.flatten() for p in extended.parameters()]).numpy()


def test_fisher_scores_are_the_gradients_of_backpack(model_rows_and_backpack):
    model, X, gradients, _ = model_rows_and_backpack
    plain = NFKTransformer(model, 2, fisher="identity", center=False, random_state=0).fit(X)
    centred = NFKTransformer(model, 2, fisher="identity", random_state=0).fit(X)
    assert relative(plain.fisher_vectors(X), gradients) < FLOAT64_RTOL
    assert relative(centred.fisher_vectors(X), gradients - gradients.mean(0)) < FLOAT64_RTOL


def test_information_is_the_variance_of_backpack(model_rows_and_backpack):
    model, X, gradients, variance = model_rows_and_backpack
    nfk = NFKTransformer(model, 2, random_state=0).fit(X)
    assert relative(nfk.information_, variance) < FLOAT64_RTOL
    assert relative(nfk.information_, gradients.var(0)) < FLOAT64_RTOL  # 1 / N, not 1 / (N - 1)


# ---------------------------------------------------------------- NNGeometry: Gram matrices


@pytest.fixture
def float64_by_default():
    """NNGeometry makes its centring matrix in torch's default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def plain_convnet():
    return seeded(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4)))


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("build, shape", [(mlp, (5,)), (plain_convnet, (1, 8, 8))])
def test_kernel_without_whitening_is_the_gram_matrix_of_nngeometry(float64_by_default, build, shape, center):
    reason = "NNGeometry 0.4 is the oracle of Gram matrices"
    backend = pytest.importorskip("nngeometry.backend", reason=reason)
    objects = pytest.importorskip("nngeometry.object", reason=reason)
    model, X = build(), rows(8, *shape)
    examples = torch.utils.data.TensorDataset(torch.from_numpy(X))
    jacobian = backend.TorchHooksJacobianBackend(
        model, function=lambda x: torch.logsumexp(model(x), dim=1, keepdim=True), centering=center
    )
    loader = torch.utils.data.DataLoader(examples, batch_size=3)
    expected = objects.FMatDense(jacobian, examples=loader).to_torch()[0, :, 0, :].detach()
    kernel = NFKernel(build(), fisher="identity", center=center).fit(X)
    assert relative(kernel(X), expected) < FLOAT64_RTOL


# ---------------------------------------------------------------- scikit-learn: truncated SVD


@pytest.mark.parametrize("build, shape", [(mlp, (5,)), (convnet, (1, 8, 8)), (attention, (5,))])
@pytest.mark.parametrize("algorithm", ["arpack", "randomized"])
def test_embedding_is_the_truncated_svd_of_scikit_learn_signs_included(build, shape, algorithm):
    X, K = rows(50, *shape), 4
    nfk = NFKTransformer(build(), K, solver="krylov", tol=1e-14, max_sweeps=40, random_state=0).fit(X)
    # 30 power iterations: far more than these 50 rows need to reach rounding.
    svd = TruncatedSVD(K, algorithm=algorithm, n_iter=30, random_state=0).fit(nfk.fisher_vectors(X))
    # What either solver leaves of a component is the root of the share of energy that it leaves.
    rtol = 1e-6
    assert relative(nfk.components_, svd.components_) < rtol
    assert relative(nfk.transform(X), svd.transform(nfk.fisher_vectors(X))) < rtol
    assert relative(nfk.singular_values_, svd.singular_values_) < FLOAT64_RTOL
    # scikit-learn's is a centred variance; Fisher vectors have mean zero.
    assert relative(nfk.explained_variance_, svd.explained_variance_) < FLOAT64_RTOL
    assert relative(nfk.explained_variance_ratio_, svd.explained_variance_ratio_) < FLOAT64_RTOL
    largest = np.abs(nfk.components_).argmax(1)
    assert (nfk.components_[np.arange(K), largest] > 0).all()


# ---------------------------------------------------------------- Fisher vectors of a Gaussian mixture


class Mixture(nn.Module):
    """log p(x) of a diagonal Gaussian mixture; weights are a softmax, spreads are standard deviations."""

    def __init__(self, mixture: GaussianMixture):
        super().__init__()
        self.logits = nn.Parameter(torch.from_numpy(np.log(mixture.weights_)))
        self.means = nn.Parameter(torch.from_numpy(mixture.means_.copy()))
        self.spreads = nn.Parameter(torch.from_numpy(np.sqrt(mixture.covariances_)))

    def forward(self, x):
        normal = torch.distributions.Normal(self.means, self.spreads)
        by_mode = normal.log_prob(x[:, None, :]).sum(-1)  # (B, modes)
        return torch.logsumexp(torch.log_softmax(self.logits, 0) + by_mode, dim=1)


def gaussian_mixture(separation: float) -> GaussianMixture:
    mixture = GaussianMixture(3, covariance_type="diag")
    mixture.weights_ = np.array([0.5, 0.3, 0.2])
    mixture.means_ = separation * np.array([[0.0, 1.0], [-1.0, 0.2], [0.9, -1.1]])
    mixture.covariances_ = np.array([[0.5, 1.2], [0.8, 0.3], [1.0, 0.6]])
    mixture.precisions_cholesky_ = 1 / np.sqrt(mixture.covariances_)
    return mixture


def analytic_scale(mixture: GaussianMixture) -> np.ndarray:
    """1 / sqrt(I) as scikit-image has it: I = w for weights, w / s^2 for means, 2 w / s^2 for spreads."""
    w, s = mixture.weights_, np.sqrt(mixture.covariances_)
    return np.concatenate([w**-0.5, (s / np.sqrt(w)[:, None]).ravel(), (s / np.sqrt(2 * w)[:, None]).ravel()])


def scikit_image_fisher_vector(descriptors, mixture):
    feature = pytest.importorskip("skimage.feature", reason="scikit-image is the oracle of Gaussian mixtures")
    found = feature.fisher_vector(descriptors, mixture, improved=False)
    # It has the gradient of -log p in the spreads: its last block has the other sign than Sanchez et al. (2013).
    n_modes = len(mixture.weights_)
    return np.concatenate([found[: n_modes + mixture.means_.size], -found[n_modes + mixture.means_.size :]])


def test_mean_score_of_a_mixtures_descriptors_is_scikit_images_fisher_vector():
    mixture, descriptors = gaussian_mixture(separation=1), 2 * rows(40, 2)
    nfk = NFKTransformer(Mixture(mixture), 2, density="log_prob", fisher="identity", center=False, random_state=0)
    scores = nfk.fit(descriptors).fisher_vectors(descriptors)  # (N, P)
    found = scores.mean(0) * analytic_scale(mixture)
    assert relative(found, scikit_image_fisher_vector(descriptors, mixture)) < FLOAT64_RTOL


def test_estimated_whitening_is_scikit_images_where_its_modes_are_far_apart():
    # Only then is its analytic information right, and then for means and spreads; of a weight it is w (1 - w).
    mixture, n_samples = gaussian_mixture(separation=40), 50_000
    mixture.random_state = 0
    samples, descriptors = mixture.sample(n_samples)[0], mixture.sample(200)[0]
    nfk = NFKTransformer(Mixture(mixture), 2, density="log_prob", center=False, damping=0, random_state=0)
    nfk.set_params(statistics=samples).fit(descriptors)
    found = nfk.fisher_vectors(descriptors).mean(0)
    expected = scikit_image_fisher_vector(descriptors, mixture)
    expected[:3] /= np.sqrt(1 - mixture.weights_)
    # The information of a spread is a mean of (g^2 - 1)^2, g Gaussian, over n w samples: its root has a relative
    # standard deviation of sqrt(56) / 4 / sqrt(n w), 0.019 for the rarest mode; four of them.
    sampling_rtol = 4 * 56**0.5 / 4 / (n_samples * mixture.weights_.min()) ** 0.5
    np.testing.assert_allclose(found, expected, rtol=sampling_rtol)


# ---------------------------------------------------------------- one Gaussian: PCA


class Gaussian(nn.Module):
    """log p(x) of a Gaussian with a learnt mean and a given spread, up to a constant."""

    def __init__(self, n_features: int, spread: float):
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(n_features, dtype=torch.float64))
        self.spread = spread

    def forward(self, x):
        return -0.5 * ((x - self.mean) / self.spread).square().sum(1)


@pytest.mark.parametrize("spread", [1.0, 0.01])
@pytest.mark.parametrize("solver", ["krylov", "exact"])
def test_embedding_by_a_gaussian_is_pca_of_standardised_data(solver, spread):
    X = rows(60, 7) @ np.diag([9.0, 4, 3, 2, 1, 0.5, 0.1]) @ rows(7, 7, seed=1) + 5
    standardised = StandardScaler().fit_transform(X)
    pca = PCA(4, svd_solver="full").fit(standardised)
    nfk = NFKTransformer(Gaussian(7, spread), 4, density="log_prob", damping=0, solver=solver, random_state=0).fit(X)
    assert relative(nfk.fisher_vectors(X), standardised) < FLOAT64_RTOL
    assert relative(nfk.components_, pca.components_) < FLOAT64_RTOL
    assert relative(nfk.transform(X), pca.transform(standardised)) < FLOAT64_RTOL
    assert relative(nfk.explained_variance_, pca.explained_variance_ * 59 / 60) < FLOAT64_RTOL  # PCA divides by N - 1
    assert relative(nfk.explained_variance_ratio_, pca.explained_variance_ratio_) < FLOAT64_RTOL
