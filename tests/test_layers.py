"""The package's layering: rooms import downward, and some names live in one file only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.layers import LEVELS, MAX_LINES, cycles, violations

PACKAGE = Path(__file__).resolve().parent.parent / "sknfk"
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


@pytest.mark.parametrize("path", SOURCES)
def test_every_file_keeps_the_layering(path):
    assert violations(path, SOURCES[path]) == []


def test_no_files_import_each_other_in_a_circle():
    assert cycles(SOURCES) == []


def test_every_room_with_a_level_is_there():
    assert {path.split("/")[0].removesuffix(".py") for path in SOURCES} - {"__init__"} == LEVELS.keys()


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/internals.rst"])
def test_a_page_lists_the_rooms_at_their_levels(page):
    lines = re.findall(r"^ *([1-6])  (.+)$", (PACKAGE.parent / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert {room.strip("/"): int(level) for level, rooms in lines for room in rooms.split()} == LEVELS


PLANTED = {
    "a room imports a higher one": ("solvers/_krylov.py", "from sknfk.fisher import FisherVectors"),
    "a room imports a stranger on its line": ("densities/_base.py", "from sknfk.batches import as_batches"),
    "a relative import goes upward": ("gradients/_vmap.py", "from ..estimators._transformer import NFK"),
    "a relative import takes a room whole": ("gradients/_vmap.py", "from .. import estimators"),
    "a room imports the package itself": ("fisher/_vectors.py", "import sknfk"),
    "an upward import hides under TYPE_CHECKING": (
        "solvers/_exact.py",
        "if TYPE_CHECKING:\n    from sknfk.gradients import GradientBlock",
    ),
    "level 1 imports its neighbour": ("_torch.py", "from sknfk._sklearn import to_host"),
    "a foundation imports its neighbour": ("_typing.py", "from sknfk.exceptions import SknfkError"),
    "a room has no level": ("plumbing/_pipes.py", "import numpy"),
    "sklearn's private module outside _sklearn": (
        "estimators/_transformer.py",
        "from sklearn.utils._param_validation import Interval",
    ),
    "sklearn's private name outside _sklearn": (
        "estimators/_transformer.py",
        "from sklearn.base import _fit_context",
    ),
    "sklearn's private name as an attribute": (
        "inspection/_rank.py",
        "import sklearn\nsklearn.base._fit_context()",
    ),
    "scipy in another file": ("solvers/_krylov.py", "from scipy.linalg import qr"),
    "torch.distributed imported": ("batches/_batches.py", "import torch.distributed as dist"),
    "torch.distributed imported from torch": ("batches/_batches.py", "from torch import distributed"),
    "torch.distributed as an attribute": (
        "batches/_batches.py",
        "import torch\ntorch.distributed.is_initialized()",
    ),
    "a function imports what is always there": (
        "solvers/_exact.py",
        "def solve():\n    import numpy as np",
    ),
    "a method imports what is always there": (
        "solvers/_exact.py",
        "class A:\n    def f(self):\n        from sknfk import exceptions",
    ),
    "a file is too long": ("solvers/_exact.py", "x = 1\n" * (MAX_LINES + 1)),
}


@pytest.mark.parametrize(("path", "source"), PLANTED.values(), ids=PLANTED)
def test_a_planted_violation_is_found(path, source):
    assert violations(path, source)


ALLOWED = {
    "downward": ("estimators/_transformer.py", "from sknfk.fisher import FisherVectors"),
    "within a room": ("solvers/_krylov.py", "from sknfk.solvers._ritz import ritz"),
    "a relative import within a room": ("solvers/_krylov.py", "from ._ritz import ritz"),
    "level 1 imports a foundation": ("_torch.py", "from sknfk._typing import Tensor"),
    "the package gathers its names": ("__init__.py", "from sknfk.estimators import NFKTransformer"),
    "sklearn's public names": ("estimators/_transformer.py", "from sklearn.base import BaseEstimator"),
    "sklearn's private names in _sklearn": ("_sklearn.py", "from sklearn.base import _fit_context"),
    "scipy in its face": ("solvers/_scipy.py", "from scipy.sparse.linalg import LinearOperator"),
    "an optional package inside a function": (
        "inspection/_rank.py",
        "def plot():\n    import matplotlib.pyplot as plt",
    ),
}


@pytest.mark.parametrize(("path", "source"), ALLOWED.values(), ids=ALLOWED)
def test_an_allowed_import_passes(path, source):
    assert violations(path, source) == []


def test_a_circle_for_type_checkers_alone_passes():
    sources = {
        "solvers/_a.py": "from sknfk.solvers._b import g",
        "solvers/_b.py": "if TYPE_CHECKING:\n    from sknfk.solvers._a import f",
    }
    assert cycles(sources) == []


def test_a_planted_circle_is_found():
    sources = {
        "solvers/_a.py": "from sknfk.solvers._b import g",
        "solvers/_b.py": "from sknfk.solvers._c import h",
        "solvers/_c.py": "from ._a import f",
    }
    assert cycles(sources) == [["solvers/_a.py", "solvers/_b.py", "solvers/_c.py", "solvers/_a.py"]]
