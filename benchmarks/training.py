"""One loop for every model that the benchmarks train: it goes on where it was broken off, bit for bit.

Batches, noise and learning rate are functions of the step's number, so that a checkpoint is the weights, the
optimisers and that number. It is written every four minutes to the ignored folder ``.cache``; weights stay there.
A GAN has two optimisers and an epoch may take longer than the time between checkpoints: both are why this is a plain
loop and not skorch's.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import trained
from .measuring import synchronise

CHECKPOINT_SECONDS = 240
WARM_UP, TIMED = 3, 10  # steps
SMOKE_STEPS, SMOKE_ROWS = 1, 8
VERSION = 1  # raise it when a recipe changes: stored weights of another version are not read

Modules = nn.ModuleDict
Optimisers = dict[str, torch.optim.Optimizer]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. ``data`` gives rows and labels; ``quality`` what the trained model reaches.

    ``step(modules, optimisers, x, y, generator)`` changes the weights once; ``rate`` is the factor of the learning
    rates at a share of the steps; ``smoke_data`` has the shape of the data.
    """

    name: str
    n_steps: int
    batch_size: int
    build: Callable[[], Modules]
    optimisers: Callable[[Modules], Optimisers]
    step: Callable[[Modules, Optimisers, Tensor, Tensor, torch.Generator], None]
    data: Callable[[], tuple[Tensor, Tensor]]
    smoke_data: Callable[[], tuple[Tensor, Tensor]]
    quality: Callable[[Modules], dict[str, float]]
    rate: Callable[[float], float] = lambda share: 1.0

    @property
    def path(self) -> Path:
        return trained.CACHE / f"trained-{self.name}-v{VERSION}.pt"


def train(recipe: Recipe, device: str = "cpu", n_steps: int | None = None) -> Modules:
    """Train, or go on training, and return the modules in eval mode on the CPU."""
    target = torch.device(device)
    n_steps = n_steps or recipe.n_steps
    modules = initial(recipe).to(target)
    optimisers = recipe.optimisers(modules)
    first = restored(recipe, modules, optimisers, n_steps, target)
    if first < n_steps:
        X, y = (rows.to(target) for rows in recipe.data())
        run(recipe, modules, optimisers, X, y, first, n_steps)
        save(recipe, modules, optimisers, n_steps, n_steps, recipe.quality(modules.cpu().eval()))
    return modules.cpu().eval()


def smoke(recipe: Recipe) -> Recipe:
    """Return a training of one step on noise, under a name of its own."""
    changes = {"name": f"smoke-{recipe.name}", "n_steps": SMOKE_STEPS, "batch_size": SMOKE_ROWS}
    return replace(recipe, data=recipe.smoke_data, quality=lambda modules: {}, **changes)


def initial(recipe: Recipe) -> Modules:
    """Return the modules as they are before the first step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return recipe.build()


def finished(recipe: Recipe) -> Modules | None:
    """Return the modules of a training that has ended, in eval mode, or None."""
    if not recipe.path.exists():
        return None
    stored = torch.load(recipe.path, map_location="cpu", weights_only=True)
    if stored["step"] < stored["n_steps"]:
        return None
    modules = initial(recipe)
    modules.load_state_dict(stored["modules"])
    return modules.eval()


def reached(recipe: Recipe) -> dict[str, Any]:
    """Return what a finished training says of itself."""
    stored = torch.load(recipe.path, map_location="cpu", weights_only=True)
    return {"n_steps": stored["n_steps"], "batch_size": recipe.batch_size, **stored["reached"]}


def run(
    recipe: Recipe, modules: Modules, optimisers: Optimisers, X: Tensor, y: Tensor, first: int, n_steps: int
) -> None:
    modules.train()
    started = saved = time.perf_counter()
    for number in range(first, n_steps):
        for optimiser in optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = optimiser.defaults["lr"] * recipe.rate(number / n_steps)
        rows = rows_of_step(number, len(X), recipe.batch_size).to(X.device)
        recipe.step(modules, optimisers, X[rows], y[rows], torch.Generator().manual_seed(number))
        n_done = number + 1 - first
        if n_done in (WARM_UP, WARM_UP + TIMED):
            synchronise(X.device)
            if n_done == WARM_UP + TIMED:
                report(recipe, (time.perf_counter() - started) / TIMED, number + 1, n_steps)
            else:
                started = time.perf_counter()
        if time.perf_counter() - saved > CHECKPOINT_SECONDS:
            save(recipe, modules, optimisers, number + 1, n_steps, {})
            saved = time.perf_counter()
            print(f"{recipe.name}: step {number + 1:,} of {n_steps:,}", flush=True)


def report(recipe: Recipe, seconds: float, n_done: int, n_steps: int) -> None:
    left, whole = (seconds * n / 3600 for n in (n_steps - n_done, n_steps))
    print(f"{recipe.name}: {seconds:.4g} s a step; {whole:.3g} h for {n_steps:,}, {left:.3g} h left", flush=True)


def rows_of_step(number: int, n_rows: int, batch_size: int) -> Tensor:
    """Indices of a step's rows: each epoch is a permutation of its own, its last rows beyond whole batches left out."""
    epoch, batch = divmod(number, n_rows // batch_size or 1)
    return permutation(n_rows, epoch)[batch * batch_size : (batch + 1) * batch_size]


@functools.lru_cache(maxsize=1)
def permutation(n_rows: int, epoch: int) -> Tensor:
    return torch.randperm(n_rows, generator=torch.Generator().manual_seed(epoch))


def save(
    recipe: Recipe, modules: Modules, optimisers: Optimisers, step: int, n_steps: int, reached: dict[str, float]
) -> None:
    recipe.path.parent.mkdir(exist_ok=True)
    partial = recipe.path.with_suffix(".partial")
    stored = {"modules": modules.state_dict(), "step": step, "n_steps": n_steps, "reached": reached}
    torch.save({**stored, "optimisers": {name: own.state_dict() for name, own in optimisers.items()}}, partial)
    partial.replace(recipe.path)


def restored(recipe: Recipe, modules: Modules, optimisers: Optimisers, n_steps: int, device: torch.device) -> int:
    """Load the checkpoint, if there is one, and return the number of steps that it has behind it."""
    if not recipe.path.exists():
        return 0
    stored = torch.load(recipe.path, map_location=device, weights_only=True)
    if stored["n_steps"] != n_steps:
        raise ValueError(
            f"The checkpoint {recipe.path.name} must be of a training of {n_steps} steps. "
            f"Got one of {stored['n_steps']}; pass --steps {stored['n_steps']} or remove it."
        )
    modules.load_state_dict(stored["modules"])
    for name, optimiser in optimisers.items():
        optimiser.load_state_dict(stored["optimisers"][name])
    return int(stored["step"])


def main(recipes: Iterable[Recipe], arguments: list[str] | None = None) -> None:
    """Train from the command line; ``--smoke`` takes one step on noise."""
    named = {recipe.name: recipe for recipe in recipes}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *named], default=[], help="none means all")
    parser.add_argument("--device", default="cpu", help="a torch device, such as cpu or cuda")
    parser.add_argument("--steps", type=int, help="instead of the recipe's own number")
    parser.add_argument("--smoke", action="store_true", help="one step on noise")
    options = parser.parse_args(arguments)
    for recipe in (named[name] for name in options.names or named):
        if options.smoke:
            recipe = smoke(recipe)
            recipe.path.unlink(missing_ok=True)
        train(recipe, options.device, options.steps)
        print(f"{recipe.name}: {reached(recipe)}", flush=True)


def cropped_and_flipped(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Each image (B, C, H, W) shifted by up to four pixels and flipped or not."""
    B, _, H, W = x.shape
    windows = F.pad(x, (4, 4, 4, 4)).unfold(2, H, 1).unfold(3, W, 1)  # (B, C, 9, 9, H, W)
    down, right = (torch.randint(0, 9, (B,), generator=generator).to(x.device) for _ in range(2))
    shifted = windows[torch.arange(B, device=x.device), :, down, right]  # (B, C, H, W)
    flip = (torch.rand(B, generator=generator) < 0.5).to(x.device)
    return torch.where(flip[:, None, None, None], shifted.flip(3), shifted)


def noise_images(*shape: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """Images and labels of nothing, for a smoke step."""
    return lambda: (torch.randint(0, 256, (SMOKE_ROWS, *shape), dtype=torch.uint8), torch.arange(SMOKE_ROWS) % 2)
