"""What is built installs alone, holds what it should, and starts quickly."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MOST_SECONDS = 2.0


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the folder of a source distribution and of the wheel made from it."""
    pytest.importorskip("hatchling", reason="needs hatchling; `make env` installs it")
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder)
    shutil.unpack_archive(next(folder.glob("*.tar.gz")), folder)
    unpacked = next(path for path in folder.iterdir() if path.is_dir())
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=unpacked)
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(built):
    names = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sknfk").rglob("*.py")}
    about = {name for name in names if ".dist-info/" in name}
    assert set(names) - about == sources | {"sknfk/py.typed"}
    assert any(name.endswith("LICENSE") for name in about)


def test_the_source_distribution_holds_the_package_its_tests_and_its_licence(built):
    names = {name.partition("/")[2] for name in tarfile.open(next(built.glob("*.tar.gz"))).getnames()}
    wanted = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "conftest.py",
        "sknfk/py.typed",
        "tests/cases.py",
    }
    assert wanted <= names


def test_installed_into_a_clean_environment_it_fits_and_warns_of_nothing(built, tmp_path):
    venv.create(tmp_path / "env", symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    installed = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # Dependencies are those of this environment. Its editable sknfk stays unseen: it is named in a .pth file, and
    # those are not read in a folder that is itself named in one.
    (installed / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    options = ("--no-index", "--no-deps", "--disable-pip-version-check", "--quiet")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, next(built.glob("*.whl")))
    program = """
import numpy as np, sknfk
print(sknfk.__file__)
X = np.random.default_rng(0).normal(size=(20, 3))
print(sknfk.NFKTransformer(n_components=2, random_state=0).fit_transform(X).shape)
"""
    where, shape = run(python, "-I", "-W", "error", "-c", program, cwd=tmp_path).splitlines()
    assert Path(where).is_relative_to(installed) and shape == "(20, 2)"


def test_import_takes_under_two_seconds_beyond_torch_and_scikit_learn():
    program = """
import time, sklearn, torch
start = time.perf_counter()
import sknfk
print(time.perf_counter() - start)
"""
    assert min(float(run(sys.executable, "-c", program)) for _ in range(3)) < MOST_SECONDS


def lower_ends(extra: str | None = None) -> dict[str, str]:
    wanted = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    return dict(re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,<[\d.]+)?", line).groups() for line in wanted)


@pytest.mark.parametrize("extra", [None, "plot", "io", "progress", "text"])
def test_the_oldest_versions_that_are_claimed_are_the_ones_that_are_run(extra):
    pins = dict(re.findall(r"^([\w-]+)==([\d.]+)$", (ROOT / "constraints-oldest.txt").read_text(), re.MULTILINE))
    for name, version in lower_ends(extra).items():
        assert re.fullmatch(rf"{re.escape(version)}(\.0)*", pins[name]), name
