"""Where the package raises or warns: found by reading it, and recorded when it happens."""

from __future__ import annotations

import ast
import contextlib
import sys
import traceback
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "sknfk"

Site = tuple[str, int]  # file within the package, line where the statement begins


def _is_warning(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("warnings.warn", "warn")


def statements(source: str) -> dict[int, int]:
    """Return first and last lines of each ``raise`` of something new and of each warning."""
    nodes = [
        node
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Raise) and node.exc is not None) or _is_warning(node)
    ]
    return {node.lineno: node.end_lineno for node in nodes}


@cache
def sites() -> dict[Site, int]:
    """Return all of them in the package, with their last lines."""
    return {
        (path.relative_to(PACKAGE).as_posix(), first): last
        for path in sorted(PACKAGE.rglob("*.py"))
        for first, last in statements(path.read_text()).items()
    }


def text_of(site: Site) -> tuple[str, str]:
    """Return the file of a statement and its text, on one line."""
    file, first = site
    lines = (PACKAGE / file).read_text().splitlines()[first - 1 : sites()[site]]
    return file, " ".join(line.strip() for line in lines)


def site_of(path: str, line: int) -> Site | None:
    """Return the statement that a line of a file is part of."""
    if not Path(path).is_relative_to(PACKAGE):
        return None
    name = Path(path).relative_to(PACKAGE).as_posix()
    return next(
        ((file, first) for (file, first), last in sites().items() if file == name and first <= line <= last), None
    )


def raised_at(error: BaseException | None) -> set[Site]:
    """Return where an error, and those that it stands for, were raised."""
    found = set()
    while error is not None:
        for frame in traceback.extract_tb(error.__traceback__):
            found.add(site_of(frame.filename, frame.lineno))
        error = error.__cause__ or error.__context__
    return found - {None}


@contextlib.contextmanager
def recorded_warnings() -> Iterator[tuple[list[warnings.WarningMessage], set[Site]]]:
    """Collect warnings, and where they were given: their own records say where they point to."""
    places: set[Site] = set()
    give = warnings.warn

    def warn(*arguments, **options):
        frame = sys._getframe(1)
        places.add(site_of(frame.f_code.co_filename, frame.f_lineno))
        options["stacklevel"] = options.get("stacklevel", 1) + 1
        give(*arguments, **options)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn = warn
        try:
            yield caught, places
        finally:
            warnings.warn = give
    places.discard(None)
