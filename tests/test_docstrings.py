"""Every public name says what it takes and returns, in numpydoc's sections."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate
from sklearn.base import BaseEstimator

ROOMS = ("batches", "densities", "distributed", "fisher", "gradients", "inspection", "solvers", "testing")

# Sections and their order; a one-line summary; every parameter with its type; what comes back.
# Left out: GL01-GL03, RT04, RT05, PR09 (layout and full stops), SS02 and PR08 (a sentence may begin with a
# symbol), ES, SA and EX (extended summary, see also and examples are for who has something to say).
ERRORS = {"GL05", "GL06", "GL07", "GL08", "GL10", "SS01", "SS03", "SS04", "SS06"} | {
    "PR01",
    "PR02",
    "PR03",
    "PR04",
    "PR05",
    "PR06",
    "PR07",
    "PR10",
    "RT01",
    "RT03",
    "YD01",
}
SUMMARY_LENGTH = 79
SPECIAL_METHODS = {"__call__"}


def public_modules() -> list[str]:
    """Return the package and those of its public rooms that are there."""
    specs = {f"sknfk.{room}": importlib.util.find_spec(f"sknfk.{room}") for room in ROOMS}
    return ["sknfk", *(name for name, spec in specs.items() if spec and spec.origin)]


@cache
def public_objects() -> dict[str, object]:
    """Return what ``__all__`` names in the package and in its public rooms, by dotted name."""
    found = {}
    for module_name in public_modules():
        module = importlib.import_module(module_name)
        for name in module.__all__:
            found[f"{module_name}.{name}"] = getattr(module, name)
    return {name: value for name, value in found.items() if callable(value) and is_ours(value)}


def is_ours(value: object) -> bool:
    return getattr(value, "__module__", "").startswith("sknfk")


def public_members(cls: type) -> list[str]:
    """Return the public methods and properties that our own classes define and document.

    An override without a docstring of its own is read with that of the method it overrides, a property
    without one under its class's Attributes.
    """
    names = {name for base in cls.__mro__ if is_ours(base) for name in vars(base)}
    public = {name for name in names if not name.startswith("_") or name in SPECIAL_METHODS}
    public -= {entry.name for entry in sections(cls)["Attributes"] if not entry_docstring(cls, entry.name)}
    return [name for name in sorted(public) if is_documented_here(cls, name)]


def entry_docstring(cls: type, name: str) -> str:
    return getattr(getattr(cls, name, None), "__doc__", None) or ""


def is_documented_here(cls: type, name: str) -> bool:
    member = inspect.getattr_static(cls, name)
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    if not (inspect.isfunction(member) or isinstance(member, property)):
        return False
    return bool(member.__doc__) or not inspect.getdoc(getattr(cls, name))


def documented_names() -> list[str]:
    names = []
    for name, value in public_objects().items():
        names.append(name)
        if inspect.isclass(value):
            names += [f"{name}.{member}" for member in public_members(value)]
    return names


def own_signature(cls: type) -> list[str] | None:
    """Return a class's constructor parameters, or None where it has no constructor of ours."""
    ours = [base for base in cls.__mro__ if is_ours(base)]
    written = dataclasses.is_dataclass(cls) or any("__init__" in vars(base) for base in ours)
    if not written or getattr(cls, "_is_protocol", False):
        return None
    return list(inspect.signature(cls).parameters)


def sections(value: object) -> NumpyDocString:
    return NumpyDocString(inspect.getdoc(value) or "")


def names_in(section) -> set[str]:
    return {name.strip().lstrip("*") for entry in section for name in entry.name.split(",")}


def excused(name: str, docstring: str) -> set[str]:
    """Return what a docstring need not say.

    What a user meets, in ``sknfk.__all__``, states all. In the rooms, for developers, a name and a type may
    speak for themselves, and a method may be one sentence. A class's parameters are the next test's, which
    knows dataclasses.
    """
    objects = public_objects()
    faces_user = f"sknfk.{name.split('.')[1]}" in objects
    excuses = set() if faces_user else {"PR07", "RT03"}
    if inspect.isclass(objects.get(name)):
        excuses |= {"PR01", "PR02"}
    elif name not in objects and not faces_user and "---" not in docstring:
        excuses |= {"PR01", "RT01", "YD01"}
    return excuses


@pytest.mark.parametrize("name", documented_names())
def test_docstring_follows_numpydoc(name):
    report = validate(name)
    wanted = ERRORS - excused(name, report["docstring"])
    assert [f"{code}: {text}" for code, text in report["errors"] if code in wanted] == []
    assert len(report["docstring"].strip().splitlines()[0]) < SUMMARY_LENGTH


@pytest.mark.parametrize("name", [name for name, value in public_objects().items() if inspect.isclass(value)])
def test_class_docstring_names_every_constructor_parameter(name):
    cls = public_objects()[name]
    parameters = own_signature(cls)
    if parameters is None:
        pytest.skip("has no constructor of its own")
    documented = names_in(sections(cls)["Parameters"])
    if dataclasses.is_dataclass(cls):  # a result's fields are its attributes
        documented |= names_in(sections(cls)["Attributes"])
    assert [parameter for parameter in parameters if parameter not in documented] == []
    assert names_in(sections(cls)["Parameters"]) <= set(parameters)


def estimators() -> dict[str, type]:
    found = {name: value for name, value in public_objects().items() if inspect.isclass(value)}
    return {name: cls for name, cls in found.items() if issubclass(cls, BaseEstimator) and hasattr(cls, "fit")}


@cache
def fitted_attributes(cls: type) -> frozenset[str]:
    """Return the public fitted attributes of an estimator with its defaults, on a small table."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 5)), columns=list("abcde"))
    y = np.arange(40) % 2
    estimator = cls()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(X, y)
    return frozenset(name for name in vars(estimator) if name.endswith("_") and not name.startswith("_"))


@pytest.mark.parametrize("name", estimators())
def test_class_docstring_names_every_fitted_attribute(name):
    cls = estimators()[name]
    assert sorted(fitted_attributes(cls) - names_in(sections(cls)["Attributes"])) == []


@pytest.mark.parametrize("name", estimators())
def test_documented_attributes_exist_after_fit(name):
    """An attribute that needs a certain setting says "Only" in its description."""
    cls = estimators()[name]
    always = [
        entry.name
        for entry in sections(cls)["Attributes"]
        if "Only" not in " ".join(entry.desc) and not hasattr(cls, entry.name)
    ]
    assert sorted(set(always) - fitted_attributes(cls)) == []
