"""Statistics over samples of the model: GANs with their generator, VAEs, chains, and what is refused."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from sknfk import NFKernel, NFKTransformer
from sknfk.densities import Discriminator, Langevin, Output, Sampled, Variational

from ..cases import FLOAT64_RTOL, mlp, rows, seeded

N_REFERENCE = 200


def generator():
    return seeded(lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5)), seed=1)


def gan(network=None, **options):
    options = {"n_reference": N_REFERENCE, "random_state": 0, "tol": 1e-10, **options}
    return NFKTransformer(mlp(5, 1), 4, density=Discriminator(network or generator()), **options)


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.dec = nn.Linear(5, 4), nn.Linear(2, 5)

    def encode(self, x):
        return self.enc(x).chunk(2, dim=1)

    def decode(self, h):
        return self.dec(torch.tanh(h))


def vae(**options):
    options = {"n_reference": N_REFERENCE, "random_state": 0, **options}
    return NFKTransformer(seeded(Autoencoder), 3, **{"density": Variational(likelihood="gaussian"), **options})


def samples_of(nfk):
    """The samples that a fit has drawn, from its own prepared density."""
    setup = nfk._set_up(rows(20), None)[0]
    return setup.samples(N_REFERENCE).rows.numpy()


@pytest.mark.parametrize("make", [gan, vae])
def test_statistics_of_the_model_are_those_of_its_samples_given_as_an_array(make):
    X = rows(20)
    drawn, given = make().fit(X), make(statistics=samples_of(make())).fit(X)
    np.testing.assert_allclose(drawn.mean_score_, given.mean_score_, rtol=FLOAT64_RTOL, atol=1e-12)
    np.testing.assert_allclose(drawn.information_, given.information_, rtol=FLOAT64_RTOL, atol=1e-12)
    np.testing.assert_allclose(drawn.transform(X), given.transform(X), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("make", [gan, vae])
def test_auto_takes_samples_where_the_density_draws_them_in_one_pass(make):
    X = rows(20)
    auto, model, data = (make(statistics=s).fit(X) for s in ("auto", "model", "data"))
    assert np.array_equal(auto.mean_score_, model.mean_score_)
    assert not np.allclose(auto.mean_score_, data.mean_score_)
    assert data.mean_shift_ == pytest.approx(0, abs=1e-12) and auto.mean_shift_ > 1e-3


def test_auto_stays_with_the_data_where_samples_cost_a_chain_or_there_are_none():
    X = rows(20)
    for density in (Discriminator(), Sampled(Output(), Langevin(n_steps=5)), "output"):
        options = {"density": density, "random_state": 0}
        auto, data = (NFKTransformer(mlp(5, 1), 3, statistics=s, **options).fit(X) for s in ("auto", "data"))
        assert np.array_equal(auto.mean_score_, data.mean_score_)
        assert auto.mean_shift_ == pytest.approx(0, abs=1e-12)


def test_a_chain_is_run_when_it_is_asked_for_by_name():
    density = Sampled(Output(), Langevin(n_steps=5, bounds=(-2, 2)))
    options = {"density": density, "n_reference": 50, "random_state": 0}
    chain, data = (NFKTransformer(mlp(5, 1), 3, statistics=s, **options).fit(rows(20)) for s in ("model", "data"))
    assert not np.allclose(chain.mean_score_, data.mean_score_)


def test_the_mean_shift_is_the_share_of_the_mean_fisher_vector():
    X = rows(20)
    nfk = gan().fit(X)
    V = nfk.fisher_vectors(X)
    assert nfk.mean_shift_ == pytest.approx(np.square(V.mean(0)).sum() / np.square(V).sum(1).mean())


def test_fits_with_one_seed_are_bitwise_equal_and_batches_do_not_matter():
    X = rows(20)
    one, same, other = (gan(random_state=seed).fit(X) for seed in (0, 0, 1))
    assert np.array_equal(one.mean_score_, same.mean_score_) and np.array_equal(one.components_, same.components_)
    assert not np.array_equal(one.mean_score_, other.mean_score_)
    small = gan(batch_size=3).fit(X)
    np.testing.assert_allclose(small.mean_score_, one.mean_score_, rtol=FLOAT64_RTOL, atol=1e-12)


def test_parameters_that_the_samples_never_move_are_bounded_by_the_relative_damping():
    class Discriminates(nn.Module):
        """One unit that all of X switches on, and hardly a sample."""

        def __init__(self):
            super().__init__()
            self.common, self.rare = nn.Linear(5, 1), nn.Linear(5, 1)

        def forward(self, x):
            return self.common(x) + torch.sigmoid(8 * (x.mean(1, keepdim=True) - 3)) * self.rare(x)

    X = rows(20) + 4
    nfk = gan().set_params(model=seeded(Discriminates)).fit(X)
    rare = np.array([name.startswith("rare") for name in np.repeat(nfk.parameter_names_, [5, 1, 5, 1])])
    assert nfk.information_[rare].max() < 1e-3 * nfk.information_.mean()
    largest = nfk.scale_.max()
    assert largest <= (nfk.damping * nfk.information_.mean()) ** -0.5 * (1 + 1e-12)
    assert np.isfinite(nfk.transform(X)).all()


def test_the_decoders_parameters_alone_can_be_asked_for():
    X = rows(20)
    both, decoder, encoder = (vae(parameters=p).fit(X) for p in (None, "decoder", "encoder"))
    assert decoder.parameter_names_ == ["dec.weight", "dec.bias"]
    assert encoder.parameter_names_ == ["enc.weight", "enc.bias"]
    assert both.parameter_names_ == encoder.parameter_names_ + decoder.parameter_names_
    assert vae(parameters="dec.*").fit(X).parameter_names_ == decoder.parameter_names_


def test_what_cannot_sample_is_refused_before_the_work():
    with pytest.raises(ValueError, match="`statistics` must be 'data' or an array.*Discriminator.*cannot sample"):
        NFKTransformer(mlp(5, 1), density=Discriminator(), statistics="model").fit(rows(20))
    wrong = seeded(lambda: nn.Linear(3, 4))
    with pytest.raises(ValueError, match=r"must have the shape of an example, \(5,\). Got \(4,\)"):
        gan(wrong).fit(rows(20))


def test_fresh_noise_in_a_density_is_refused():
    def fresh(model, x):
        mean, log_variance = model.encode(x)
        return -(x - model.decode(mean + (0.5 * log_variance).exp() * torch.randn_like(mean))).square().sum(1)

    with pytest.raises(ValueError, match="must return the same values for the same X"):
        vae(density=fresh).fit(rows(20))


def test_samples_take_the_shape_of_an_example():
    images = rows(20, 1, 2, 3)
    model = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1)))
    flat = seeded(lambda: nn.Linear(3, 6), seed=1)
    nfk = NFKTransformer(model, 3, density=Discriminator(flat), n_reference=50, random_state=0)
    assert nfk.fit(images).transform(images).shape == (20, 3)


def test_a_kernel_and_a_pipeline_take_a_generator_and_a_clone_shares_it():
    X, y = rows(20), np.arange(20) % 2
    nfk, kernel = gan(), NFKernel(mlp(5, 1), density=Discriminator(generator()), n_reference=50, random_state=0)
    assert clone(nfk).density is nfk.density
    assert kernel.fit_transform(X).shape == (20, 20)
    assert make_pipeline(nfk, LogisticRegression()).fit(X, y).score(X, y) >= 0.5


def test_a_memory_tells_generators_apart(tmp_path):
    X = rows(20)
    other = generator()
    with torch.no_grad():
        other[0].weight[0, 0] += 1
    one, again, different = (gan(g, memory=str(tmp_path)).fit(X) for g in (generator(), generator(), other))
    assert np.array_equal(one.components_, again.components_)
    assert not np.array_equal(one.mean_score_, different.mean_score_)


@pytest.mark.parametrize("engine", ["layerwise", "vmap", "loop", "jvp"])
def test_a_sigmoid_at_the_end_changes_no_fisher_vector_whatever_the_engine(engine):
    X, logit = rows(20), mlp(5, 1)
    with_sigmoid = nn.Sequential(*logit, nn.Sigmoid())
    options = {"density": "discriminator", "engine": engine, "random_state": 0, "solver": "exact"}
    plain, read = (NFKTransformer(model, 4, **options).fit(X) for model in (logit, with_sigmoid))
    np.testing.assert_allclose(read.fisher_vectors(X), plain.fisher_vectors(X), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(read.log_density(X), plain.log_density(X), rtol=1e-12)


@pytest.mark.parametrize("bound", ["elbo", "importance"])
@pytest.mark.parametrize("engine", ["vmap", "loop", "jvp"])
def test_engines_agree_on_the_gradients_of_a_bound(engine, bound):
    X = rows(12)
    options = {"density": Variational(likelihood="gaussian", bound=bound), "statistics": "data", "solver": "exact"}
    expected, found = (vae(engine=e, **options).fit(X).fisher_vectors(X) for e in ("layerwise", engine))
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


def test_a_plan_says_what_the_statistics_are_over_and_holds_room_for_the_samples():
    X = rows(20)
    told, other = gan().explain(X), gan(statistics="data").explain(X)
    assert f"statistics of {N_REFERENCE} samples of the model" in str(told)
    assert "statistics of X" in str(other)
    assert "statistics of the 30 rows given" in str(gan(statistics=rows(30)).explain(X))
    assert told.plan.memory["samples of the model"] == 2 * N_REFERENCE * 5 * 8
    assert "samples of the model" not in other.plan.memory
