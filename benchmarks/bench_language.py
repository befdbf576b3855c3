"""Who speaks? A causal transformer trained on tiny Shakespeare, speeches of ten speakers, few labels.

The model reads characters without the speaker's name. Its Fisher vectors (the gradient of the speech's log-likelihood)
stand beside the mean of its last hidden states and TF-IDF of words and of characters. Speeches have their own lengths;
they are padded, and a mask leaves the padding out.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_union
from torch import Tensor, nn
from torch.nn import functional as F

from sknfk import NFKTransformer

from .bench_families import labelled_rows
from .cases import zoo
from .features import N_COMPONENTS, RANKS, Features, side_by_side
from .measuring import significant, summary
from .ours import plan
from .probes import probe
from .trained import CharacterTransformer, encode, step, stored

TAKES: tuple[str, ...] = ()
LENGTH = 192  # characters of a speech that are read; four in five are shorter
N_SPEAKERS = 10
PER_CLASS = (3, 10, 50)
N_DRAWS = 10
N_STEPS = 1_000
BATCH = 32


class SpeechModel(nn.Module):
    """Logits of the next character at each position, (B, T, n_characters)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = CharacterTransformer(length=LENGTH)

    def hidden(self, input_ids: Tensor) -> Tensor:
        T = input_ids.shape[1]
        places = self.net.position(torch.arange(T, device=input_ids.device))
        return self.net.encoder(self.net.token(input_ids) + places, mask=self.net.mask[:T, :T], is_causal=True)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        return self.net.head(self.hidden(input_ids))


def trained(text: str) -> SpeechModel:
    """Train on the whole text, windows of 192 characters: some minutes of Adam. No label is seen."""
    tokens = torch.from_numpy(encode(text))

    def train(model: SpeechModel) -> dict[str, float]:
        optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=N_STEPS, pct_start=0.1)
        model.train()
        loss = torch.tensor(0.0)
        for _ in range(N_STEPS):
            starts = torch.randint(0, len(tokens) - LENGTH - 1, (BATCH,))
            windows = tokens[starts[:, None] + torch.arange(LENGTH + 1)]
            loss = F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
            step(optimiser, loss)
            schedule.step()
        return {"nats_per_character": float(loss)}

    return stored("speeches", SpeechModel, train)


def speeches(text: str) -> tuple[list[str], np.ndarray, list[str]]:
    """What the speakers with most speeches say, in the order of the text, and who says it."""
    blocks = [block.split(":\n", 1) for block in text.split("\n\n") if ":\n" in block]
    counts = collections.Counter(name for name, _ in blocks)
    names = [name for name, _ in counts.most_common(N_SPEAKERS)]
    chosen = [(said.strip(), names.index(name)) for name, said in blocks if name in names]
    return [said for said, _ in chosen], np.array([speaker for _, speaker in chosen]), names


def tokens_of(said: list[str], text: str) -> dict[str, np.ndarray]:
    """Speeches as the model reads them, padded on the right."""
    characters = {character: rank for rank, character in enumerate(sorted(set(text)))}
    ids = np.zeros((len(said), LENGTH), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, speech in enumerate(said):
        own = [characters[character] for character in speech[:LENGTH]]
        ids[row, : len(own)], mask[row, : len(own)] = own, 1
    return {"input_ids": ids, "attention_mask": mask}


def mean_hidden(model: SpeechModel, parts: dict[str, np.ndarray], batch_size: int = 64) -> np.ndarray:
    """The last hidden states of a speech, averaged over its characters."""
    found = []
    with torch.no_grad():
        for start in range(0, len(parts["input_ids"]), batch_size):
            ids, mask = (torch.from_numpy(part[start : start + batch_size]) for part in parts.values())
            hidden = model.hidden(ids) * mask[:, :, None]
            found.append(hidden.sum(1) / mask.sum(1, keepdim=True))
    return torch.cat(found).numpy()


def rows(device: str, smoke: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    if smoke:
        ids = np.array([[1, 2, 3, 0], [3, 1, 0, 0]])
        nfk = NFKTransformer(SpeechModel().eval(), 2, density="language_model", random_state=0)
        yield "tiny", {"dimension": nfk.fit({"input_ids": ids, "attention_mask": (ids > 0) * 1}).n_components_}
        return
    text = zoo("datasets").tiny_shakespeare()
    said, speaker, names = speeches(text)
    parts, model = tokens_of(said, text), trained(text)
    nfk = NFKTransformer(model, N_COMPONENTS, density="language_model", device=device, random_state=0)
    started = time.perf_counter()
    embedded = nfk.fit(parts).transform(parts)
    seconds = time.perf_counter() - started
    hidden = mean_hidden(model, parts)
    words = TfidfVectorizer(sublinear_tf=True, min_df=2)
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, min_df=5)
    sets = {
        "NFK-128": embedded,
        "hidden states": hidden,
        "hidden states + NFK-128": side_by_side((hidden, hidden), (embedded, embedded))[0],
        "TF-IDF": make_union(words, characters).fit_transform(said).toarray(),
    }
    features = on_one_table(sets, speaker)
    shares = np.cumsum(nfk.explained_variance_ratio_)
    yield (
        "about",
        {
            "n_speeches": len(said),
            "speakers": names,
            "n_parameters": nfk.n_parameters_,
            "dimensions": {name: own.shape[1] for name, own in sets.items()},
            "explained_variance": {str(rank): significant(float(shares[rank - 1])) for rank in RANKS},
            "fit_and_transform_seconds": significant(seconds),
            **plan(nfk),
        },
    )
    for per_class in PER_CLASS:
        yield str(per_class), compared(features, per_class)


def on_one_table(sets: dict[str, np.ndarray], y: np.ndarray) -> Features:
    """All speeches are base and test; a draw is tested on those without a label."""
    plain = {name: np.asarray(own, np.float32) for name, own in sets.items()}
    return Features(plain, plain, y, y, {"on_task": True})


def compared(features: Features, per_class: int) -> dict[str, Any]:
    found: dict[str, list[float]] = {name: [] for name in features.base}
    for draw in range(N_DRAWS):
        labelled = labelled_rows(features.y_base, str(per_class), draw)
        for name in found:
            found[name].append(probe(features, name, labelled, draw).accuracy)
    return {"n_draws": N_DRAWS, "accuracy": {name: summary(values) for name, values in found.items()}}
