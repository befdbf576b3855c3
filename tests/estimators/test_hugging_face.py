"""Models of Hugging Face, with random weights."""

import numpy as np
import pytest
import torch

from sknfk import NFKTransformer

transformers = pytest.importorskip("transformers")

N, K, N_TOKENS = 30, 4, 40
SMALL = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}


def seeded(build):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build().eval().double()


def bert():
    config = transformers.BertConfig(vocab_size=N_TOKENS, max_position_embeddings=20, num_labels=3, **SMALL)
    return seeded(lambda: transformers.BertForSequenceClassification(config))


def gpt2():
    config = transformers.GPT2Config(vocab_size=N_TOKENS, n_positions=20, n_embd=16, n_layer=2, n_head=2)
    return seeded(lambda: transformers.GPT2LMHeadModel(config))


def vit():
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_channels=1, num_labels=3, **SMALL)
    return seeded(lambda: transformers.ViTForImageClassification(config))


def texts(length):
    rng = np.random.default_rng(0)
    ids = np.zeros((N, length), dtype=np.int64)
    for row, n_tokens in zip(ids, rng.integers(3, 10, N), strict=True):
        row[:n_tokens] = rng.integers(1, N_TOKENS, n_tokens)
    return transformers.BatchEncoding({"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)})


def images():
    return {"pixel_values": np.random.default_rng(0).normal(size=(N, 1, 8, 8))}


CASES = {
    "BERT": (bert, lambda: texts(10), "auto"),
    "GPT-2": (gpt2, lambda: texts(10), "language_model"),
    "ViT": (vit, images, "auto"),
}


@pytest.mark.parametrize("name", CASES)
def test_fisher_vectors_are_those_of_plain_autograd(name):
    build, make, density = CASES[name]
    X = make()
    found, plain = (
        NFKTransformer(build(), K, density=density, engine=engine, random_state=0).fit(X) for engine in ("auto", "loop")
    )
    assert found.engine_ == "layerwise"
    assert found.module_.config._attn_implementation == "eager"
    expected = plain.fisher_vectors(X)
    assert np.linalg.norm(found.fisher_vectors(X) - expected) <= 1e-8 * np.linalg.norm(expected)
    assert found.transform(X).shape == (N, K)


def test_the_callers_model_keeps_its_form_of_attention():
    model = bert()
    before = model.config._attn_implementation
    NFKTransformer(model, K, random_state=0).fit(texts(10))
    assert model.config._attn_implementation == before == "sdpa"


@pytest.mark.parametrize("name", ["BERT", "GPT-2"])
def test_padding_changes_no_embedding(name):
    build, _, density = CASES[name]
    fitted = NFKTransformer(build(), K, density=density, random_state=0).fit(texts(10))
    short, long = (fitted.transform(texts(length)) for length in (10, 17))
    np.testing.assert_allclose(long, short, atol=1e-8 * np.abs(short).max())


def test_a_language_model_asks_for_its_density_by_name():
    with pytest.raises(ValueError, match=r"LanguageModel\(\) for logits of the next token"):
        NFKTransformer(gpt2(), K).fit(texts(10))


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of the two libraries between themselves
def test_adapters_are_what_requires_a_gradient():
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(bert(), peft.LoraConfig(r=2, target_modules=["query", "value"])).double()
    fitted = NFKTransformer(model, K, random_state=0).fit(texts(10))
    assert fitted.parameter_names_
    assert all("lora_" in name for name in fitted.parameter_names_)
