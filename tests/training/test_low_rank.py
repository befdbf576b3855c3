"""The virtual layer of low rank: its terms, their gradients, its projection."""

import copy
from collections import OrderedDict

import numpy as np
import pytest
import torch
from skorch import NeuralNetClassifier
from torch import nn

from sknfk import LowRankCallback, LowRankRegularizer

M, R, B = 10, 3, 7


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def virtual():
    return LowRankRegularizer(M, R, weight=0.7, norm_weight=0.3).double()


def test_the_terms_are_those_of_the_paper(virtual):
    a = gaussian(B, M)
    virtual.W, virtual.b = gaussian(M, M, seed=1), gaussian(M, seed=2)
    W, b = virtual.W.numpy(), virtual.b.numpy()
    compression = np.mean([np.sum((W.T @ (x + b) - (x + b)) ** 2) for x in a.numpy()])
    norm = np.mean([abs(1 - np.linalg.norm(x)) for x in a.numpy()])
    assert float(virtual.loss(a)) == pytest.approx(0.7 * compression + 0.3 * norm)


def test_activations_pass_as_they_are_and_their_gradient_is_that_of_the_sum_of_losses(virtual):
    a, c = gaussian(B, M).requires_grad_(), gaussian(B, M, seed=1)
    out = virtual(a)
    assert torch.equal(out, a)
    (out * c).sum().backward()
    b = a.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad((b * c).sum() + virtual.loss(b), b)
    torch.testing.assert_close(a.grad, expected)


def test_two_batches_may_pass_before_the_backward_pass(virtual):
    a, b = gaussian(B, M).requires_grad_(), gaussian(B, M, seed=1).requires_grad_()
    (virtual(a).sum() + virtual(b).sum()).backward()
    assert bool((a.grad != 1).any() and (b.grad != 1).any())


def test_in_eval_mode_and_without_gradients_it_is_not_there(virtual):
    a = gaussian(B, M).requires_grad_()
    virtual.eval()(a).sum().backward()
    assert torch.equal(a.grad, torch.ones_like(a))
    with torch.no_grad():
        virtual.train()(a)
    assert virtual.n_batches == 0


def test_the_first_batch_gives_its_principal_directions(virtual):
    a = gaussian(40, M) @ gaussian(M, M, seed=1) + 3
    virtual(a.requires_grad_())
    rows = a.detach().numpy()
    _, _, Vh = np.linalg.svd(rows - rows.mean(0))
    np.testing.assert_allclose(virtual.W.numpy(), Vh[:R].T @ Vh[:R], atol=1e-10)
    np.testing.assert_allclose(virtual.b.numpy(), -rows.mean(0), atol=1e-12)


def test_a_batch_moves_w_along_the_gradient_of_its_term_and_b_towards_its_minimiser(virtual):
    virtual(gaussian(B, M).requires_grad_())
    W, b, a = virtual.W.clone(), virtual.b.clone(), gaussian(B, M, seed=1)
    virtual(a.requires_grad_())
    lr, moved = virtual.lr, b - virtual.lr * (b + a.detach().mean(0))
    torch.testing.assert_close(virtual.b, moved)
    own = W.clone().requires_grad_()
    x = a.detach() + moved
    (gradient,) = torch.autograd.grad((x @ own - x).square().sum(1).mean(), own)
    torch.testing.assert_close(virtual.W, W - lr * gradient / (2 * x.square().sum(1).mean()))


@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_w_and_b_find_the_subspace_whatever_the_length_of_activations(length):
    virtual = LowRankRegularizer(M, R, every=5).double()
    axes = torch.linalg.qr(gaussian(M, R))[0]
    for seed in range(200):
        virtual((length * (gaussian(50, R, seed=seed) @ axes.T + 1)).requires_grad_())
    a = length * (gaussian(200, R, seed=999) @ axes.T + 1)
    shifted = a + virtual.b
    assert float((shifted @ virtual.W - shifted).norm() / (a - a.mean(0)).norm()) < 0.1


def test_projection_leaves_rank_r_and_keeps_what_has_it_already(virtual):
    low = gaussian(M, R) @ gaussian(R, M, seed=1)
    virtual.W = low
    virtual.project()
    torch.testing.assert_close(virtual.W, low)
    virtual.W = gaussian(M, M)
    virtual.project()
    assert int(torch.linalg.matrix_rank(virtual.W)) == R


@pytest.mark.parametrize("seed", range(3))
def test_projection_comes_close_to_the_best_of_its_rank(seed):
    virtual = LowRankRegularizer(40, 4, random_state=seed).double()
    U, _ = torch.linalg.qr(gaussian(40, 40, seed=seed))
    V, _ = torch.linalg.qr(gaussian(40, 40, seed=seed + 10))
    S = torch.tensor([5.0, 4.0, 3.0, 2.0] + [0.05] * 36, dtype=torch.float64)
    virtual.W = W = (U * S) @ V.T
    virtual.project()
    best = float(torch.linalg.vector_norm(S[4:]))
    assert float((virtual.W - W).norm()) < 1.5 * best


def test_projection_finds_the_few_columns_that_are_not_zero():
    virtual = LowRankRegularizer(200, 3).double()
    virtual.W = W = torch.diag((torch.arange(200) % 80 == 7).double())
    virtual.project()
    torch.testing.assert_close(virtual.W, W)


def test_projections_come_every_few_batches(virtual):
    ranks = []
    for seed in range(20):
        virtual(gaussian(B, M, seed=seed).requires_grad_())
        ranks.append(int(torch.linalg.matrix_rank(virtual.W)))
    assert [number for number, rank in enumerate(ranks, start=1) if rank == R] == [1, 10, 20]


def test_a_deep_copy_goes_on_to_the_same_bits(virtual):
    virtual(gaussian(B, M).requires_grad_())
    other = copy.deepcopy(virtual)
    for seed in range(1, 12):
        for own in (virtual, other):
            own(gaussian(B, M, seed=seed).requires_grad_())
    assert torch.equal(virtual.W, other.W)


def test_a_stored_state_goes_on_to_the_same_bits(virtual):
    virtual(gaussian(B, M).requires_grad_())
    other = LowRankRegularizer(M, R, weight=0.7, norm_weight=0.3).double()
    other.load_state_dict(virtual.state_dict())
    for seed in range(1, 12):
        for own in (virtual, other):
            own(gaussian(B, M, seed=seed).requires_grad_())
    assert torch.equal(virtual.W, other.W)


def test_activations_in_half_precision_and_of_length_zero_have_finite_gradients():
    virtual = LowRankRegularizer(M, R, every=2)
    for seed in range(3):
        a = gaussian(B, M, seed=seed).bfloat16()
        a[0] = 0
        out = virtual(a.requires_grad_())
        assert out.dtype == torch.bfloat16
        out.sum().backward()
        assert bool(torch.isfinite(a.grad).all())
    assert virtual.W.dtype == torch.float32


@pytest.mark.parametrize("rank", [0, M + 1])
def test_a_rank_that_there_is_not_is_refused(rank):
    with pytest.raises(ValueError, match=f"`rank` must be between 1 and the width of the activations, {M}. Got {rank}"):
        LowRankRegularizer(M, rank)


def test_a_rate_that_would_overshoot_is_refused():
    with pytest.raises(ValueError, match="`lr` must be above 0 and at most 1. Got 2"):
        LowRankRegularizer(M, R, lr=2)


def test_activations_of_another_width_are_refused(virtual):
    with pytest.raises(ValueError, match="`width` must be that of the activations, 4. Got 10"):
        virtual(gaussian(B, 4))


def data(n=200):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 8)).astype(np.float32)
    return X, (X[:, 0] + X[:, 1] > 0).astype(np.int64)


def net(callbacks=(), module=None, **options):
    torch.manual_seed(0)
    return NeuralNetClassifier(
        module or nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2)),
        criterion=nn.CrossEntropyLoss,
        max_epochs=30,
        lr=0.1,
        batch_size=20,
        train_split=None,
        verbose=0,
        callbacks=list(callbacks),
        **options,
    )


def share_outside(fitted, X, rank):
    with torch.no_grad():
        a = fitted.module_[:2](torch.from_numpy(X)).numpy()
    S = np.linalg.svd(a - a.mean(0), compute_uv=False) ** 2
    return S[rank:].sum() / S.sum()


def test_a_trained_net_has_activations_of_lower_rank_and_classifies_as_well():
    X, y = data()
    with torch.random.fork_rng():
        plain = net().fit(X, y)
        low = net([("low", LowRankCallback("1", 2, weight=0.3, every=5))]).fit(X, y)
    assert share_outside(low, X, 2) < 0.3 * share_outside(plain, X, 2)
    assert low.score(X, y) > plain.score(X, y) - 0.05  # 200 rows whose eight directions are alike: two lose something


def test_nothing_is_left_on_the_module():
    X, y = data()
    with torch.random.fork_rng():
        fitted = net([LowRankCallback(["1", "0"], 2)]).fit(X, y)
    assert not any(module._forward_hooks for module in fitted.module_.modules())
    assert not any(isinstance(module, LowRankRegularizer) for module in fitted.module_.modules())


def test_without_weight_training_is_what_it_was():
    X, y = data()
    with torch.random.fork_rng():
        plain = net().fit(X, y)
        free = net([LowRankCallback("1", 2, weight=0.0, norm_weight=0.0)]).fit(X, y)
    for own, other in zip(plain.module_.parameters(), free.module_.parameters(), strict=True):
        torch.testing.assert_close(own, other)


def test_an_unknown_layer_is_refused_with_near_names():
    X, y = data()
    module = nn.Sequential(OrderedDict(body=nn.Linear(8, 16), squash=nn.Tanh(), head=nn.Linear(16, 2)))
    with torch.random.fork_rng(), pytest.raises(ValueError, match="Got 'boody'; near names are 'body'"):
        net([LowRankCallback("boody", 2)], module=module).fit(X, y)


def test_a_rank_above_the_layers_width_is_refused():
    X, y = data()
    with torch.random.fork_rng(), pytest.raises(ValueError, match="the width of the activations, 16. Got 17"):
        net([LowRankCallback("1", 17)]).fit(X, y)


def test_a_training_that_fails_leaves_nothing_behind_at_the_next():
    X, y = data()
    with torch.random.fork_rng():
        broken = net([LowRankCallback("1", 17)], warm_start=True)
        with pytest.raises(ValueError, match="Got 17"):
            broken.fit(X, y)
        broken.set_params(callbacks__LowRankCallback__rank=2).fit(X, y)
    assert not any(module._forward_hooks for module in broken.module_.modules())
