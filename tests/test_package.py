"""What the package promises before anything is computed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import sknfk
from tests.test_docstrings import public_modules

ROOT = Path(__file__).resolve().parent.parent


def run_python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_version_agrees_with_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sknfk.__version__ == project["version"]


def test_public_names_are_sorted_and_exist():
    assert list(sknfk.__all__) == sorted(sknfk.__all__)
    assert [name for name in sknfk.__all__ if not hasattr(sknfk, name)] == []


def test_import_raises_no_warning():
    run_python("-W", "error", "-c", "import sknfk")


def test_import_prints_nothing():
    assert run_python("-c", "import sknfk") == ""


def test_import_leaves_matplotlib_alone():
    run_python("-c", "import sknfk, sys; sys.exit('matplotlib' in sys.modules)")


def test_api_page_lists_every_public_room():
    listed = re.findall(r"^ +(sknfk(?:\.\w+)?)$", (ROOT / "docs" / "api.rst").read_text(), re.MULTILINE)
    assert listed == public_modules()
