"""Equations of the NFK paper (Zhang et al., 2022), errata mended, against their terms written out."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, jacrev

from sknfk import NFKernel, NFKTransformer
from sknfk.densities import Logit

from ..cases import FLOAT64_RTOL, attention, convnet, mlp, rows
from ..zoo_data import requires_zoo
from .lenet import lenet5, mnist_images
from .measures import linear_kernel, relative

K = 6
MODELS = {
    "mlp": (mlp, (5,)),
    "convnet": (convnet, (1, 8, 8)),
    "attention": (attention, (5,)),
}


@pytest.fixture(params=MODELS)
def build_and_rows(request):
    """A factory of one classifier, rows X to fit and rows it has not seen."""
    build, shape = MODELS[request.param]
    return build, rows(30, *shape), rows(8, *shape, seed=9)


def exact(model, n_components=K, **options):
    return NFKTransformer(model, n_components, solver="exact", random_state=0, **options)


def logit_jacobian(model, X):
    """Gradients of every logit by every parameter, (N, C, P)."""
    parameters = dict(model.named_parameters())
    jacobian = jacrev(lambda values: functional_call(model, values, (torch.from_numpy(X),)))(parameters)
    return torch.cat([j.flatten(2) for j in jacobian.values()], dim=2).detach()


# ---------------------------------------------------------------- Eq. 7: class pairs of tangent kernels


def kernel_over_class_pairs(model, X, Y):
    """Eq. 7: sum over y, y' of p(y | x) p(y' | x') grad f_y(x) . grad f_y'(x')."""
    J, G = logit_jacobian(model, X), logit_jacobian(model, Y)
    tangent_kernel = torch.einsum("nap,mbp->nmab", J, G)
    p, q = (torch.softmax(model(torch.from_numpy(rows)), dim=1).detach() for rows in (X, Y))
    return torch.einsum("na,mb,nmab->nm", p, q, tangent_kernel)


def test_classifier_kernel_is_the_expected_tangent_kernel_over_class_pairs(build_and_rows):
    build, X, X_new = build_and_rows
    kernel = NFKernel(build(), fisher="identity", center=False).fit(X)
    assert relative(kernel(X), kernel_over_class_pairs(build(), X, X)) < FLOAT64_RTOL
    assert relative(kernel(X_new, X), kernel_over_class_pairs(build(), X_new, X)) < FLOAT64_RTOL


def test_argmax_kernel_is_the_term_of_the_two_likeliest_classes(build_and_rows):
    build, X, X_new = build_and_rows
    model, n, m = build(), torch.arange(len(X_new)), torch.arange(len(X))
    likeliest, likeliest_new = (model(torch.from_numpy(rows)).argmax(1) for rows in (X, X_new))
    expected = logit_jacobian(model, X_new)[n, likeliest_new] @ logit_jacobian(model, X)[m, likeliest].T
    kernel = NFKernel(build(), density=Logit("argmax"), fisher="identity", center=False).fit(X)
    assert relative(kernel(X_new, X), expected) < FLOAT64_RTOL


# Relative error of the argmax approximation on 64 MNIST test images, whose likeliest class has a mean probability of
# 0.998: measured 1.157e-2, in float32 and in float64.
ARGMAX_ERROR = (1.1e-2, 1.2e-2)


@requires_zoo
def test_argmax_approximation_errs_by_a_hundredth_on_lenet5(record_property):
    X = mnist_images(64)

    def kernel(density):
        return NFKernel(lenet5(), density=density, fisher="identity", center=False).fit(X)(X)

    error = relative(kernel(Logit("argmax")), kernel("classifier"))
    record_property("argmax_error", error)
    assert ARGMAX_ERROR[0] < error < ARGMAX_ERROR[1]


# ---------------------------------------------------------------- appendix B: one spectrum, two sides


def test_nonzero_eigenvalues_of_both_gram_matrices_coincide_and_are_the_squared_singular_values(build_and_rows):
    build, X, _ = build_and_rows
    n_nonzero = len(X) - 1  # centred rows sum to zero
    nfk = exact(build(), n_nonzero).fit(X)
    V = nfk.fisher_vectors(X)
    left, right = (np.sort(np.linalg.eigvalsh(G))[::-1] for G in (V @ V.T, V.T @ V))
    rounding = FLOAT64_RTOL * left[0]  # eigenvalues are exact to a few eps of the largest
    np.testing.assert_allclose(left[:n_nonzero], right[:n_nonzero], rtol=0, atol=rounding)
    assert np.abs(right[n_nonzero:]).max(initial=0) < rounding
    np.testing.assert_allclose(nfk.singular_values_**2, left[:n_nonzero], rtol=0, atol=rounding)


# ---------------------------------------------------------------- the embedding and the kernel


def descending_eigh(kernel):
    eigenvalues, U = np.linalg.eigh(kernel)
    return eigenvalues[::-1], U[:, ::-1]


@pytest.mark.parametrize("fisher", ["diag", "identity"])
@pytest.mark.parametrize("center", [True, False])
def test_inner_products_of_embeddings_are_the_best_kernel_of_their_rank(build_and_rows, fisher, center):
    build, X, _ = build_and_rows
    kernel = NFKernel(build(), fisher=fisher, center=center).fit(X)(X)
    eigenvalues, U = descending_eigh(kernel)
    best = (U[:, :K] * eigenvalues[:K]) @ U[:, :K].T
    Z = exact(build(), fisher=fisher, center=center).fit_transform(X)
    assert relative(linear_kernel(Z), best) < FLOAT64_RTOL
    # Eckart and Young: what no kernel of rank K can reach.
    assert relative(linear_kernel(Z), kernel) == pytest.approx(
        np.linalg.norm(eigenvalues[K:]) / np.linalg.norm(eigenvalues), rel=1e-8
    )


def eigenfunctions(kernel, X, Y):
    """Eigenvalues lambda_i of the kernel's operator on X, and eigenfunctions phi_i at Y, from the kernel alone.

    lambda_i phi_i(y) = mean over n of K(y, x_n) phi_i(x_n), and phi_i has mean square 1 on X.
    """
    eigenvalues, U = descending_eigh(kernel(X))
    eigenvalues, phi = eigenvalues[:K] / len(X), U[:, :K] * len(X) ** 0.5
    return eigenvalues, kernel(Y, X) @ phi / len(X) / eigenvalues  # (K,), (M, K)


@pytest.mark.parametrize("seen", [True, False])
def test_embedding_is_the_eigenfunctions_times_the_roots_of_the_eigenvalues(build_and_rows, seen):
    build, X, X_new = build_and_rows
    Y = X if seen else X_new
    eigenvalues, phi = eigenfunctions(NFKernel(build()).fit(X), X, Y)
    nfk = exact(build()).fit(X)
    Z = nfk.transform(Y)
    signs = np.sign((Z * phi).sum(0))
    # sqrt(lambda_i) phi_i(x) = (V_x P)_i
    assert relative(Z, np.sqrt(eigenvalues) * phi * signs) < FLOAT64_RTOL
    assert relative(Z, nfk.fisher_vectors(Y) @ nfk.components_.T) < FLOAT64_RTOL


def test_the_papers_further_factor_of_singular_values_does_not_give_the_kernel(build_and_rows):
    build, X, _ = build_and_rows
    kernel = NFKernel(build()).fit(X)(X)
    everything = exact(build(), len(X) - 1).fit(X)
    Z = everything.transform(X)
    assert relative(linear_kernel(Z), kernel) < FLOAT64_RTOL
    scaled = linear_kernel(Z * everything.singular_values_)
    best_factor = (scaled * kernel).sum() / np.square(scaled).sum()
    assert relative(best_factor * scaled, kernel) > 0.2  # no choice of units mends it


def test_rank_k_is_the_first_k_columns(build_and_rows):
    build, X, X_new = build_and_rows
    wide = exact(build(), 12).fit(X)
    Z = wide.transform(X_new)
    for k in (1, 4, 11):
        assert relative(exact(build(), k).fit(X).transform(X_new), Z[:, :k]) < FLOAT64_RTOL
        # One factorisation: the same components in a product of another width, which may round otherwise.
        assert np.array_equal(wide.truncate(k).components_, wide.components_[:k])
        assert relative(wide.truncate(k).transform(X_new), Z[:, :k]) < FLOAT64_RTOL


# ---------------------------------------------------------------- gauges


class Shifted(nn.Module):
    """A classifier whose logits are shifted by one c(x) for all classes."""

    def __init__(self, model, shift):
        super().__init__()
        self.model, self.shift = model, shift

    def forward(self, x):
        logits = self.model(x)
        return logits + self.shift(x, logits)


def kernel_and_probabilities(model, X):
    probabilities = torch.softmax(model(torch.from_numpy(X)), dim=1).detach()
    return NFKernel(model).fit(X)(X), probabilities


def test_a_shift_of_all_logits_that_depends_on_the_parameters_changes_the_kernel_and_no_probability(build_and_rows):
    build, X, _ = build_and_rows
    kernel, probabilities = kernel_and_probabilities(build(), X)
    centred = Shifted(build(), lambda x, logits: -logits.mean(1, keepdim=True))
    kernel_shifted, probabilities_shifted = kernel_and_probabilities(centred, X)
    assert relative(probabilities_shifted, probabilities) < FLOAT64_RTOL
    assert relative(kernel_shifted, kernel) > 0.1


def test_a_shift_of_all_logits_that_no_parameter_moves_leaves_the_kernel(build_and_rows):
    build, X, _ = build_and_rows
    kernel, _ = kernel_and_probabilities(build(), X)
    shifted = Shifted(build(), lambda x, logits: 3 * x.flatten(1).sin().sum(1, keepdim=True))
    assert relative(kernel_and_probabilities(shifted, X)[0], kernel) < FLOAT64_RTOL


class HalfLogits(nn.Module):
    """One logit f as the two logits (-f/2, f/2)."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        half = self.model(x) / 2
        return torch.cat([-half, half], dim=1)


@pytest.mark.parametrize("build, shape", [(lambda: mlp(n_outputs=1), (5,)), (lambda: convnet(1), (1, 8, 8))])
def test_a_classifier_of_one_logit_is_that_of_two_half_logits(build, shape):
    X, X_new = rows(30, *shape), rows(8, *shape, seed=9)
    one = exact(build(), density="classifier").fit(X)
    two = exact(HalfLogits(build())).fit(X)  # two columns are taken as logits
    assert relative(one.log_density(X), two.log_density(X)) < FLOAT64_RTOL
    assert relative(one.transform(X_new), two.transform(X_new)) < FLOAT64_RTOL
    output = exact(build(), density="output").fit(X)
    assert relative(output.transform(X), one.transform(X)) > 0.1  # the logit itself is another density


# ---------------------------------------------------------------- units


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e4])
def test_rescaling_the_log_density_leaves_the_whitened_kernel(build_and_rows, factor):
    build, X, X_new = build_and_rows

    def rescaled(model, x):
        return factor * torch.logsumexp(model(x), dim=1)

    plain, scaled = NFKernel(build()).fit(X), NFKernel(build(), density=rescaled).fit(X)
    assert relative(scaled(X_new, X), plain(X_new, X)) < FLOAT64_RTOL
    plain, scaled = (k.set_params(fisher="identity").fit(X) for k in (plain, scaled))
    assert relative(scaled(X_new, X), factor**2 * plain(X_new, X)) < FLOAT64_RTOL
