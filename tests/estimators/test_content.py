"""Digests by content: code counts by what it does, in every process alike."""

import functools
import os
import pickle
import subprocess
import sys
import threading

import pytest

from sknfk._portable import without_addresses
from sknfk.densities import (
    Autoregressive,
    CallableDensity,
    Classifier,
    Density,
    Discriminator,
    LogProb,
    Sampled,
    Variational,
)
from sknfk.estimators._content import content_digest

from ..cases import mlp

# As a cell of a notebook defines them, under names that stay.
FUNCTION = """
import torch
scale, names = 2.0, {"a": 1.0}
class Settings:
    power = 1
settings = Settings()
def helper(z):
    return z / scale
def decorated(function):
    return lambda *arguments: 1 * function(*arguments)
@torch.no_grad()
def decorated_by_torch(z):
    return 3 * z
class Own:
    weight = 1.0
    def __init__(self, bias=0.0):
        self.bias = bias
    def __call__(self, model, x):
        return self.value(model(x))
    @property
    def half(self):
        return 0.5
    def value(self, z):
        return z.sum(1)
@decorated
def f(model, x, power=2):
    if type(model).__name__ in {"one", "two", "three"}:
        return f(model.inner, x)
    within = lambda z: (z**power).mean(1) + names["a"] * settings.power
    return helper(within(decorated_by_torch(model(x))))
"""
CHANGES = {
    "a constant": ("z**power", "2 * z**power"),
    "an attribute": ("mean(1)", "amax(1)"),
    "a default": ("power=2", "power=3"),
    "a global number": ("scale, names = 2.0", "scale, names = 3.0"),
    "a global dict": ('{"a": 1.0}', '{"a": 2.0}'),
    "a global function": ("z / scale", "z * scale"),
    "the class of a global": ("power = 1", "power = 2"),
    "what a decorator does": ("1 * function", "2 * function"),
    "what a decorator of torch is put on": ("3 * z", "4 * z"),
    "a decorator of torch": ("torch.no_grad()", "torch.enable_grad()"),
    "a set": ('"three"', '"four"'),
}
CHANGES_OF_CLASS = {
    "a method": ("z.sum(1)", "z.mean(1)"),
    "a call": ("self.value(model(x))", "-self.value(model(x))"),
    "a property": ("0.5", "0.25"),
    "an attribute of the class": ("weight = 1.0", "weight = 2.0"),
    "an attribute of the object": ("bias=0.0", "bias=1.0"),
}


def cell(source=FUNCTION):
    defined = {"__name__": "__main__"}
    exec(source, defined)
    return defined


def digests():
    """Digests of densities that hold functions in every place, defined anew."""
    defined = cell()
    f, own = defined["f"], defined["Own"]()
    densities = {
        "a function": CallableDensity(f),
        "a method": CallableDensity(own.__call__),
        "an object": CallableDensity(own),
        "a partial function": CallableDensity(functools.partial(f, power=3)),
        "LogProb": LogProb(method=f),
        "Variational": Variational(encode=f, decode=own),
        "Autoregressive": Sampled(Classifier(), Autoregressive(f)),
        "Discriminator": Discriminator(mlp(), latent=f),
    }
    return {name: content_digest(density) for name, density in densities.items()}


def test_code_that_is_defined_again_has_the_same_digest_in_this_process_and_another():
    found = digests()
    assert len(set(found.values())) == len(found)
    assert digests() == found
    script = "from tests.estimators.test_content import digests; print(digests())"
    told = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == str(found)


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_function_does_tells_it_from_another_of_its_name(name):
    one, other = (cell(source)["f"] for source in (FUNCTION, FUNCTION.replace(*CHANGES[name])))
    for density in (CallableDensity, LogProb, lambda f: Sampled(Classifier(), Autoregressive(f))):
        assert content_digest(density(one)) != content_digest(density(other))


@pytest.mark.parametrize("name", CHANGES_OF_CLASS)
def test_what_a_class_does_tells_it_from_another_of_its_name(name):
    one, other = (cell(source)["Own"]() for source in (FUNCTION, FUNCTION.replace(*CHANGES_OF_CLASS[name])))
    assert content_digest(CallableDensity(one)) != content_digest(CallableDensity(other))


def test_what_a_function_encloses_is_part_of_it():
    def times(factor):
        return CallableDensity(lambda model, x: factor * model(x)[:, 0])

    assert content_digest(times(2)) == content_digest(times(2)) != content_digest(times(3))


def test_names_that_a_function_does_not_use_are_not_part_of_it():
    defined = cell()
    before = content_digest(CallableDensity(defined["f"]))
    defined["mean"] = defined["unused"] = 1  # `mean` is an attribute of what `f` calls it on
    assert content_digest(CallableDensity(defined["f"])) == before


def test_what_cannot_be_pickled_is_refused():
    with pytest.raises(pickle.PicklingError, match="`density` must hold what can be pickled .* cannot pickle '_thread"):
        content_digest(CallableDensity(functools.partial(cell()["f"], lock=threading.Lock())))


class Odd(Density):
    def __init__(self, settings):
        self.settings = settings

    def log_density(self, model, x):
        return model(x)[:, 0]


def test_no_address_is_left_of_a_density():
    defined = cell()
    for held in (defined["f"], defined["settings"], [defined["f"]], functools.partial(defined["f"], 1), len):
        text = without_addresses(repr(Odd(held)))
        assert "0x" not in text and text.startswith("Odd(settings=")
