"""X in every form gives the features that the array of the same rows gives."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from skorch import NeuralNetClassifier
from skorch.helper import SliceDataset, SliceDict
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sknfk import NFKernel, NFKTransformer
from sknfk.densities import LanguageModel
from sknfk.exceptions import DataChangedError

from ..cases import mlp, rows, seeded

N, T, N_TOKENS, K = 40, 7, 30, 4
# Batches of another width round otherwise.
RTOL = 1e-9


class Bag(nn.Module):
    """Classifies the mean of what an example's tokens are embedded to; the output is a dict, as Hugging Face's."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(N_TOKENS, 6)
        self.hidden = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, input_ids, attention_mask):
        h = torch.tanh(self.hidden(self.table(input_ids))) * attention_mask[..., None]
        return {"hidden": h, "logits": self.head(h.sum(1) / attention_mask.sum(1, keepdim=True))}


class Causal(nn.Module):
    """Predicts the next token from all before it."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(N_TOKENS, 6)
        self.recurrent = nn.GRU(6, 6, batch_first=True)
        self.head = nn.Linear(6, N_TOKENS)

    def forward(self, input_ids, attention_mask=None):
        return (self.head(self.recurrent(self.table(input_ids))[0]),)


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    return [rng.integers(1, N_TOKENS, length) for length in rng.integers(2, T + 1, N)]


def padded(texts, length=T):
    ids = np.zeros((len(texts), length), dtype=np.int64)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = text
    return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}


class Texts(Dataset):
    def __init__(self, texts):
        self.texts = texts

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, index):
        return torch.from_numpy(self.texts[index])


def collate(items):
    ids = nn.utils.rnn.pad_sequence(items, batch_first=True)
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def nfk(model, **options):
    return NFKTransformer(model, K, **{"solver": "krylov", "random_state": 0, **options})


def kernel(E):
    return E.astype(np.float64) @ E.T.astype(np.float64)


def assert_same_kernel(E, expected, rtol=RTOL):
    assert np.linalg.norm(kernel(E) - kernel(expected)) <= rtol * np.linalg.norm(kernel(expected))


WAYS = {
    "SliceDict": lambda parts, texts: SliceDict(**parts),
    "list of dicts": lambda parts, texts: [{name: v[i] for name, v in parts.items()} for i in range(N)],
    "tensors": lambda parts, texts: {name: torch.from_numpy(v) for name, v in parts.items()},
    "padded by the loader": lambda parts, texts: DataLoader(Texts(texts), batch_size=8, collate_fn=collate),
}


@pytest.mark.parametrize("engine", ["auto", "vmap", "loop"])
@pytest.mark.parametrize("way", WAYS)
def test_parts_by_name_in_every_form_give_the_same_kernel(way, engine, texts):
    parts = padded(texts)
    expected = nfk(seeded(Bag), batch_size=16, engine="loop").fit(parts).transform(parts)
    X = WAYS[way](parts, texts)
    fitted = nfk(seeded(Bag), batch_size=16, engine=engine).fit(X)
    assert fitted.engine_ == ("layerwise" if engine == "auto" else engine)
    assert_same_kernel(fitted.transform(X), expected)


def test_vectors_and_log_densities_are_plain_autograds(texts):
    parts, model = padded(texts), seeded(Bag)
    fitted = nfk(model).fit(parts)
    values = torch.logsumexp(model(**{name: torch.from_numpy(v) for name, v in parts.items()})["logits"], 1)
    np.testing.assert_allclose(fitted.log_density(parts), values.detach(), rtol=1e-12)
    gradients = [
        torch.cat([g.flatten() for g in torch.autograd.grad(v, list(model.parameters()), retain_graph=True)])
        for v in values
    ]
    J = torch.stack(gradients).numpy()
    V = (J - fitted.mean_score_) * fitted.scale_
    np.testing.assert_allclose(fitted.fisher_vectors(parts), V, atol=1e-9 * np.abs(V).max())


@pytest.mark.parametrize("model, options", [(Bag, {}), (Causal, {"density": LanguageModel()})])
def test_padding_changes_no_embedding(model, options, texts):
    short, long = padded(texts), padded(texts, T + 6)
    fitted = nfk(seeded(model), **options).fit(short)
    assert_same_kernel(fitted.transform(long), fitted.transform(short))
    assert_same_kernel(nfk(seeded(model), **options).fit(long).transform(long), fitted.transform(short))
    loader = DataLoader(Texts(texts), collate_fn=collate)
    assert_same_kernel(nfk(seeded(model), batch_size=3, **options).fit_transform(loader), fitted.transform(short))


def test_the_kernel_takes_parts_too(texts):
    parts = padded(texts)
    exact = NFKernel(seeded(Bag)).fit(parts).transform(parts)
    vectors = nfk(seeded(Bag)).fit(parts).fisher_vectors(parts)
    np.testing.assert_allclose(exact, vectors @ vectors.T, atol=1e-9 * np.abs(exact).max())


def test_fitted_on_parts_it_is_pickled_saved_cached_and_resumed(texts, tmp_path):
    pytest.importorskip("safetensors")
    parts = padded(texts)
    fitted = nfk(seeded(Bag)).fit(parts)
    expected = fitted.transform(parts)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).transform(parts), expected)
    fitted.save(tmp_path / "fitted")
    np.testing.assert_array_equal(NFKTransformer.load(tmp_path / "fitted", seeded(Bag)).transform(parts), expected)
    for _ in range(2):
        cached = nfk(seeded(Bag), memory=str(tmp_path), checkpoint=tmp_path / "fit").fit(SliceDict(**parts))
        np.testing.assert_array_equal(cached.transform(parts), expected)


class Tokenizer(TransformerMixin, BaseEstimator):
    """Bytes as tokens, padded to the longest text."""

    def __init__(self, length=None):
        self.length = length

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        texts = [np.frombuffer(text.encode(), np.uint8)[: self.length] % (N_TOKENS - 1) + 1 for text in X]
        return padded(texts, max(map(len, texts)))


def test_text_goes_through_a_pipeline_under_grid_search():
    rng = np.random.default_rng(0)
    words = {0: ["red", "green", "blue"], 1: ["one", "two", "three"]}
    y = np.arange(60) % 2
    X = [" ".join(rng.choice(words[label], 4)) for label in y]
    steps = [("tokens", Tokenizer()), ("nfk", nfk(seeded(Bag))), ("probe", LogisticRegression(C=1e3, max_iter=1000))]
    grid = {"nfk__n_components": [2, 8], "tokens__length": [4, None]}
    search = GridSearchCV(Pipeline(steps), grid, cv=3, error_score="raise").fit(X, y)
    assert search.best_score_ > 0.8


def test_slices_of_scikit_learn_reach_the_model(texts):
    parts, y = padded(texts), np.array([text[0] % 2 for text in texts])
    images = TensorDataset(torch.from_numpy(rows(N).astype(np.float32)), torch.from_numpy(y))
    probe = make_pipeline(nfk(seeded(Bag)), LogisticRegression())
    assert len(cross_val_score(probe, SliceDict(**parts), y, cv=3, error_score="raise")) == 3
    probe = make_pipeline(nfk(mlp().float()), LogisticRegression())
    assert len(cross_val_score(probe, SliceDataset(images, 0), y, cv=3, error_score="raise")) == 3


@pytest.mark.parametrize("dtype", [">f4", ">f8", "longdouble"])
@pytest.mark.parametrize("model", [None, mlp()], ids=["none", "mlp"])
def test_dtypes_that_torch_has_not_give_the_features_of_those_it_has(model, dtype):
    X = rows(N).astype(dtype)
    same = X.astype(np.float32 if dtype == ">f4" else np.float64)
    found, expected = nfk(model).fit_transform(X), nfk(model).fit_transform(same)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


ONE_TENSOR = {
    "frame": pd.DataFrame,
    "Dataset": lambda X: TensorDataset(torch.from_numpy(X), torch.zeros(len(X))),
    "DataLoader": lambda X: DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=7),
    "SliceDataset": lambda X: SliceDataset(TensorDataset(torch.from_numpy(X)), 0),
}


@pytest.mark.parametrize("kind", ONE_TENSOR)
def test_rows_of_one_tensor_give_what_the_array_gives(kind):
    X = rows(N)
    expected = nfk(mlp()).fit_transform(X)
    np.testing.assert_array_equal(nfk(mlp()).fit_transform(ONE_TENSOR[kind](X)), expected)


def test_a_memory_map_is_read_in_batches_and_written_in_batches(tmp_path):
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", dtype="float32", shape=(N, 5))
    X[:] = rows(N)
    out = np.lib.format.open_memmap(tmp_path / "E.npy", "w+", dtype="float32", shape=(N, K))
    fitted = nfk(mlp().float(), batch_size=16).fit(X)
    assert fitted.transform(X, out=out) is out
    np.testing.assert_array_equal(out, fitted.transform(X))


@pytest.mark.parametrize("out", [np.zeros((N, K + 1)), np.zeros((N, K), dtype=int), [[0.0]], "file.npy"])
def test_a_place_to_write_to_that_does_not_fit_is_refused(out):
    fitted = nfk(mlp()).fit(rows(N))
    with pytest.raises(ValueError, match=r"`out` must be a writable floating array of shape \(40, 4\)"):
        fitted.transform(rows(N), out=out)


class Noisy(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, index):
        return torch.randn(5)


def test_augmentation_is_found_out_before_any_work(visited):
    with pytest.raises(DataChangedError, match="no augmentation"):
        nfk(mlp().float()).fit(Noisy())
    assert not visited


class Drifting(Dataset):
    """The rows below number 20 stay, and the others change every time that they are read."""

    def __init__(self):
        self.n_reads = 0

    def __len__(self):
        return N

    def __getitem__(self, index):
        self.n_reads += 1
        return torch.full((5,), float(index if index < 20 else self.n_reads))


def test_rows_that_change_later_are_found_out_at_the_second_pass():
    with pytest.raises(DataChangedError, match="Got other values in batch 1"):
        nfk(mlp().float(), batch_size=16, gradient_cache=None).fit(Drifting())


def test_a_net_is_trained_on_parts(texts):
    parts, y = padded(texts), np.arange(N) % 3
    net = NeuralNetClassifier(Bag32, criterion=nn.CrossEntropyLoss, max_epochs=2, verbose=0, train_split=None)
    fitted = nfk(net).fit(SliceDict(**parts), y)
    assert fitted.transform(parts).shape == (N, K)


class Bag32(Bag):
    def forward(self, input_ids, attention_mask):
        return super().forward(input_ids, attention_mask.float())["logits"]


REFUSED = {
    "another part": (lambda parts: {**parts, "age": np.zeros(N)}, "must have the parts that it had in fit"),
    "a part less": (lambda parts: {"input_ids": parts["input_ids"]}, "must have the parts that it had in fit"),
    "an array": (lambda parts: rows(N), "X must have parts by name, as in fit. Got rows of shape"),
    "floats for tokens": (
        lambda parts: {**parts, "input_ids": parts["input_ids"].astype(float)},
        "must have the parts that it had in fit",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_parts_than_in_fit_are_refused(name, texts):
    make, message = REFUSED[name]
    fitted = nfk(seeded(Bag)).fit(padded(texts))
    with pytest.raises(ValueError, match=message):
        fitted.transform(make(padded(texts)))


def test_parts_are_refused_after_an_array(texts):
    with pytest.raises(ValueError, match="in fit an example was one array"):
        nfk(mlp()).fit(rows(N)).transform(padded(texts))


def test_parts_that_the_model_does_not_take_are_named():
    with pytest.raises(ValueError, match=r"must accept the parts of X as arguments by these names: pixels \(3, 5\)"):
        nfk(mlp()).fit({"pixels": rows(N)})


@pytest.mark.parametrize("options", [{"input_shape": (7,)}, {"model": None}, {"statistics": "model"}])
def test_options_that_have_no_meaning_for_parts_are_refused(options, texts):
    with pytest.raises(ValueError, match="`(input_shape|model|statistics)` must be"):
        nfk(seeded(Bag)).set_params(**options).fit(padded(texts))


def test_several_outputs_need_a_named_density():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, x):
            return self.net(x), x

    with pytest.raises(TypeError, match="Got tuple for 3 rows"):
        nfk(TwoHeads()).fit(rows(N))
    found = nfk(TwoHeads(), density="classifier").fit_transform(rows(N))
    assert_same_kernel(found, nfk(mlp()).fit_transform(rows(N)))


class Preprocessing(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 4))

    def forward(self, x):
        return self.net((x / 255 - 0.5) / 0.25)


def test_images_in_bytes_are_preprocessed_in_the_model():
    X = np.random.default_rng(0).integers(0, 256, (N, 1, 8, 8), dtype=np.uint8)
    found = nfk(seeded(Preprocessing)).fit(X)
    np.testing.assert_array_equal(found.transform(X), nfk(seeded(Preprocessing)).fit_transform(X.astype(float)))
    assert X.dtype == np.uint8


class Audio(nn.Module):
    """Classifies waves of any length: a convolution in time, and a mean over the samples that count."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv1d(1, 4, 5, padding=2), nn.Tanh(), nn.Conv1d(4, 4, 1))
        self.head = nn.Linear(4, 3)

    def forward(self, wave, n_samples):
        counts = torch.arange(wave.shape[1], device=wave.device) < n_samples[:, None]  # (B, T)
        h = self.layers(wave[:, None]) * counts[:, None]
        return self.head(h.sum(2) / n_samples[:, None])


class Waves(Dataset):
    def __init__(self):
        rng = np.random.default_rng(0)
        self.waves = [torch.from_numpy(rng.normal(size=length)) for length in rng.integers(12, 30, N)]

    def __len__(self):
        return N

    def __getitem__(self, index):
        return self.waves[index], index % 3


def collate_waves(items):
    waves = [wave for wave, _ in items]
    return {
        "wave": nn.utils.rnn.pad_sequence(waves, batch_first=True),
        "n_samples": torch.tensor([len(wave) for wave in waves]),
    }


@pytest.mark.parametrize("engine", ["auto", "vmap"])
def test_audio_of_any_length_is_padded_by_the_loader_and_padding_counts_for_nothing(engine):
    loader = DataLoader(Waves(), collate_fn=collate_waves)
    together = collate_waves([Waves()[i] for i in range(N)])
    expected = nfk(seeded(Audio), engine="loop").fit_transform(together)
    for batch_size in (1, 7, N):
        found = nfk(seeded(Audio), engine=engine, batch_size=batch_size).fit_transform(loader)
        assert_same_kernel(found, expected)


def test_names_of_columns_are_kept_and_forgotten_with_a_fit_that_has_none():
    frame = pd.DataFrame(rows(N), columns=list("abcde"))
    found = nfk(mlp()).fit(frame)
    assert list(found.feature_names_in_) == list("abcde")
    assert not hasattr(found.fit(TensorDataset(torch.from_numpy(rows(N)))), "feature_names_in_")
