"""How long the paper's models take to train here: the time of a step, and what it makes of the whole training.

A row is one recipe of ``train_classifiers``, ``train_gans`` or ``train_vae``. Some steps on noise of the data's shape
are timed, and thrown away.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

import torch

from . import train_classifiers, train_gans, train_vae, training
from .measuring import significant, timed
from .training import Recipe

TAKES = ("cases",)  # not "done": what is trained changes
WARM_UP, TIMED = 1, 5
STUDENTS = {"wrn16_1": "wrn40_2"}  # in no table without their teacher, and trained anew in each row of its table
SCRIPTS = {recipe.name: script for script in (train_classifiers, train_gans, train_vae) for recipe in script.RECIPES}
RECIPES = {recipe.name: recipe for script in dict.fromkeys(SCRIPTS.values()) for recipe in script.RECIPES}


def rows(device: str, smoke: bool, cases: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in cases or RECIPES:
        recipe = training.smoke(RECIPES[name]) if smoke else RECIPES[name]
        by = f"python -m {SCRIPTS[name].__name__} {name}"
        yield name, {"trained_by": by, **measured(recipe, device, 1 if smoke else TIMED)}


def is_complete(rows: dict[str, dict]) -> bool:
    return RECIPES.keys() <= rows.keys()


def measured(recipe: Recipe, device: str, n_timed: int) -> dict[str, Any]:
    target = torch.device(device)
    modules = training.initial(recipe).to(target).train()
    optimisers = recipe.optimisers(modules)
    x, y = (rows.repeat(-(-recipe.batch_size // len(rows)), *[1] * (rows.ndim - 1)) for rows in recipe.smoke_data())
    batch = [rows[: recipe.batch_size].to(target) for rows in (x, y)]

    def step() -> float:
        return timed(lambda: recipe.step(modules, optimisers, *batch, torch.Generator().manual_seed(0)), target)[0]

    seconds = [step() for _ in range(WARM_UP + n_timed)][WARM_UP:]
    median = statistics.median(seconds)
    return {
        "n_parameters": sum(p.numel() for p in modules.parameters()),
        "batch_size": recipe.batch_size,
        "n_steps": recipe.n_steps,
        "seconds_a_step": significant(median),
        "hours": significant(median * recipe.n_steps / 3600),
        "is_trained": training.finished(recipe) is not None,
    }
