"""Digests by content, which another process finds again: code counts by what it does, not by its name."""

from __future__ import annotations

import dis
import functools
import pickle
import sys
import sysconfig
from collections.abc import Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from joblib import hashing
from torch import Tensor, nn

from ..densities import Density

__all__ = ["content_digest"]

INSTALLED = (sysconfig.get_path("stdlib"), "site-packages", "dist-packages")
# What a name in code counts by where it stands for one of these; other objects count by their class there.
_PLAIN = (int, float, complex, str, bytes, tuple, list, dict, np.ndarray, Tensor, nn.Module)
_CODE = (FunctionType, BuiltinFunctionType, MethodType, functools.partial, ModuleType, type)


def content_digest(density: Density, *classes: type) -> str:
    """Return a digest of a density's settings, arrays, networks and code, and of the code of classes.

    Functions and classes of installed packages count by their names, others by their
    instructions, constants, defaults, what they enclose and the global names they use.

    Parameters
    ----------
    density : Density
        As a fit uses it.
    *classes : type
        More of them, such as those of the model.

    Returns
    -------
    str
        The digest.

    Raises
    ------
    PicklingError
        If the density holds what has no content, such as an open file.
    """
    try:
        return _ContentHasher().hash((density, classes))
    except (pickle.PicklingError, TypeError, ValueError, AttributeError) as error:
        raise pickle.PicklingError(
            "`density` must hold what can be pickled where `memory` or `checkpoint` is given or several processes fit "
            f"together, since its content tells one fit from another. Got {density!r}: {error.args[0]}; leave out what "
            "belongs to one process, such as open files and locks."
        ) from error


class _ContentHasher(hashing.NumpyHasher):
    """joblib's hasher, which takes functions and classes by their names, looking into them."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[int, tuple[int, Any]] = {}  # holds the objects too, so that no other gets the place of one

    def save(self, obj: Any) -> None:
        parts = _parts(obj)
        if parts is None:
            super().save(obj)
        elif id(obj) in self._seen:  # a function may call itself
            super().save(self._seen[id(obj)][0])
        else:
            self._seen[id(obj)] = (len(self._seen), obj)
            super().save(parts)

    def _batch_setitems(self, items: Any, *obj: Any) -> None:
        # joblib's would take the TypeError of a value for one of keys that have no order, and go on.
        self.save(sorted(items, key=lambda item: repr(item[0])))


def _parts(obj: Any) -> Any:
    """Return what an object is made of, where joblib would take its name or refuse it; else None."""
    if isinstance(obj, FunctionType):
        return _parts_of_function(obj)
    if isinstance(obj, type):
        return _parts_of_class(obj)
    if isinstance(obj, MethodType):
        return obj.__func__, obj.__self__
    if isinstance(obj, Density | nn.Module):  # whatever they do to be pickled
        return type(obj), vars(obj)
    return obj.__name__ if isinstance(obj, ModuleType) else None


def _parts_of_function(function: FunctionType) -> tuple[Any, ...]:
    code, module = function.__code__, function.__globals__.get("__name__")
    enclosed = {
        name: cell.cell_contents for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True)
    }
    if _is_installed(module):  # a decorator of torch encloses what it decorates
        return module, code.co_qualname, _by_value(enclosed)
    used = {name: function.__globals__.get(name) for name in _global_names(code)}
    return repr(_instructions(code)), function.__defaults__, function.__kwdefaults__, enclosed, _by_value(used)


def _parts_of_class(cls: type) -> tuple[Any, ...]:
    if _is_installed(cls.__module__):
        return cls.__module__, cls.__qualname__
    # What other methods with two underscores do, such as __init__, is seen in the instances.
    own = {name: value for name, value in vars(cls).items() if name == "__call__" or not name.startswith("__")}
    return cls.__qualname__, cls.__bases__, _by_value(own)


def _by_value(named: Mapping[str, Any]) -> dict[str, Any]:
    functions = {name: _function_of(value) for name, value in named.items()}
    return {name: value if isinstance(value, _PLAIN + _CODE) else type(value) for name, value in functions.items()}


def _function_of(member: Any) -> Any:
    """Return what a property, class method or static method of a class calls; else the member."""
    if isinstance(member, staticmethod | classmethod):
        return member.__func__
    return member.fget if isinstance(member, property) else member


def _instructions(code: CodeType) -> tuple[Any, ...]:
    """Return code without names of files and numbers of lines, and with sets in one order for all processes."""
    constants = [
        _instructions(c) if isinstance(c, CodeType) else sorted(map(repr, c)) if isinstance(c, frozenset) else c
        for c in code.co_consts
    ]
    return code.co_code, code.co_exceptiontable, code.co_names, constants


def _global_names(code: CodeType) -> set[str]:
    """Return the global names that code and the functions within it use."""
    own = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*(_global_names(c) for c in code.co_consts if isinstance(c, CodeType)))


def _is_installed(module: str | None) -> bool:
    """Return whether code is of the library, of Python or of an installed package, and not of one who works on it."""
    if module is None or module == "__main__":  # a notebook, whose file may be that of a program it runs in
        return False
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    is_built_in = module in sys.builtin_module_names or module.split(".")[0] == __name__.split(".")[0]
    return is_built_in or any(part in file for part in INSTALLED)
