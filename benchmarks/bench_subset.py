"""What a part of the parameters costs: a vision transformer of ViT-B's size with random weights, its last block or all.

What is left out takes no part in the backward pass, so both time and memory fall with the part. Each way is measured in
a process of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sknfk import NFKTransformer

from .measuring import significant, timed

ROOT = Path(__file__).resolve().parent.parent
TAKES: tuple[str, ...] = ()
WAYS = {"all": None, "last block": "encoder.layers.11.*", "last layer": "last_layer"}
N_EXAMPLES, N_COMPONENTS = 32, 8
SIZES = {"full": (768, 12, 12, 16, 224), "smoke": (16, 2, 2, 8, 16)}  # width, layers, heads, patch, image


class VisionTransformer(nn.Module):
    """Images (B, 3, n, n) -> logits (B, 1000)."""

    def __init__(self, width: int, n_layers: int, n_heads: int, patch: int, image: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.position = nn.Parameter(torch.randn(1, 1 + (image // patch) ** 2, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, n_heads, 4 * width, activation="gelu", batch_first=True, norm_first=True, dropout=0.0
        )
        self.encoder = nn.TransformerEncoder(layer, n_layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.encoder(torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.position)[:, 0])


def rows(device: str, smoke: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    for way in WAYS:
        command = [sys.executable, "-m", "benchmarks.bench_subset", way, device, "smoke" if smoke else "full"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        yield way, json.loads(done.stdout.splitlines()[-1])


def measured(way: str, device: str, size: str) -> dict[str, Any]:
    torch.manual_seed(0)
    model = VisionTransformer(*SIZES[size]).eval()
    parameters = WAYS[way]
    if way == "last block":
        parameters = f"encoder.layers.{SIZES[size][1] - 1}.*"
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_EXAMPLES, 3, SIZES[size][4], SIZES[size][4])).astype(np.float32)
    before = peak_bytes(device)
    nfk = NFKTransformer(
        model, N_COMPONENTS, parameters=parameters, gradient_cache=None, batch_size=4, device=device, random_state=0
    )
    seconds, _ = timed(lambda: nfk.fit(X), torch.device(device))
    return {
        "n_parameters": nfk.n_parameters_,
        "n_parameters_of_the_model": sum(p.numel() for p in model.parameters()),
        "n_examples": N_EXAMPLES,
        "n_components": N_COMPONENTS,
        "engine": nfk.engine_,
        "solver": nfk.solver_,
        "n_sweeps": nfk.n_sweeps_,
        "seconds": significant(seconds),
        "seconds_per_pass": significant(seconds / (1 + nfk.n_sweeps_)),
        "peak_mib_above_the_model": significant((peak_bytes(device) - before) / 2**20),
    }


def peak_bytes(device: str) -> int:
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    print(json.dumps(measured(*sys.argv[1:])))
