"""Every message that a user can meet, by what brings it about.

The tables beside this file hold a trigger, a class and the whole message, "…" standing for any text. A message says
what must hold, what was got and what to do.
"""

from __future__ import annotations

import inspect
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from . import (
    about_classifiers,
    about_companions,
    about_densities,
    about_displays,
    about_files,
    about_fits,
    about_gradients,
    about_models,
    about_outputs,
    about_processes,
    about_solvers,
    about_x,
)
from .sites import Site, raised_at, recorded_warnings, sites, statements, text_of

TABLES = (
    about_x,
    about_fits,
    about_files,
    about_models,
    about_outputs,
    about_densities,
    about_gradients,
    about_solvers,
    about_displays,
    about_classifiers,
    about_companions,
    about_processes,
)
TABLE = {name: case for table in TABLES for name, case in table.MESSAGES.items()}

# Statements that no user meets, or none here, each with its reason.
INTERNAL = {
    ("gradients/_parameters.py", "raise IndexError(index)"): "asks for the name of a number that the library makes",
    ("training/_skorch.py", "raise interruptions[0]"): "is Ctrl-C, which has no message",
}
LONGEST = 600


@dataclass(frozen=True)
class Outcome:
    """What a trigger brought about."""

    kind: type
    message: str
    sites: frozenset[Site]


@cache
def outcome(name: str) -> Outcome:
    """Pull a trigger, with a folder and patches of its own where it asks for them."""
    trigger: Callable = TABLE[name][0]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        given = {"folder": Path(folder), "patch": patch}
        wanted = {key: given[key] for key in inspect.signature(trigger).parameters}
        with recorded_warnings() as (caught, places):
            try:
                trigger(**wanted)
            except Exception as error:
                return Outcome(type(error), str(error), frozenset(raised_at(error)))
    ours = [warning for warning in caught if issubclass(warning.category, TABLE[name][1])]
    assert ours, f"nothing was raised, and no {TABLE[name][1].__name__} given"
    return Outcome(ours[0].category, str(ours[0].message), frozenset(places))


def pattern(message: str) -> str:
    return ".+?".join(re.escape(part) for part in message.split("…"))


@pytest.mark.parametrize("name", TABLE)
def test_the_message_is(name):
    _, kind, message = TABLE[name]
    found = outcome(name)
    assert found.kind is kind
    assert re.fullmatch(pattern(message), found.message, re.DOTALL), found.message


@pytest.mark.parametrize("name", TABLE)
def test_a_message_is_short_and_ends_with_a_full_stop(name):
    assert TABLE[name][2].endswith(("…", ".")) and not TABLE[name][2].endswith("..")
    assert len(outcome(name).message) <= LONGEST


def test_no_name_stands_in_two_tables():
    assert sum(len(table.MESSAGES) for table in TABLES) == len(TABLE)


def test_every_message_of_the_package_stands_in_a_table_or_is_internal():
    reached = {site for name in TABLE for site in outcome(name).sites}
    missing = set(sites()) - reached
    assert sorted(text_of(site) for site in missing) == sorted(INTERNAL)


def test_statements_are_found_in_a_source():
    source = "raise ValueError(\n    'a'\n)\nwarnings.warn('b')\ntry: f()\nexcept E: raise\n"
    assert statements(source) == {1: 3, 4: 4}
