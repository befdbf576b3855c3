"""Reads what modules import and says which rules of the package's layering they break.

Works on source text, so that it can be shown to fail on planted violations.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

LEVELS = {
    "inspection": 6,
    "testing": 6,
    "estimators": 5,
    "fisher": 4,
    "training": 4,
    "gradients": 3,
    "densities": 2,
    "batches": 2,
    "solvers": 2,
    "_typing": 1,
    "_sklearn": 1,
    "_threads": 1,
    "_tokens": 1,
    "_torch": 1,
    "_layers": 1,
    "_portable": 1,
    "_products": 1,
    "distributed": 1,
    "persistence": 1,
    "exceptions": 1,
}
FOUNDATIONS = {"_typing", "_threads", "exceptions"}  # what level 1 may import of itself
OPTIONAL_PACKAGES = {"matplotlib", "safetensors", "rich"}  # what a function may import
SCIPY_FILES = {"solvers/_scipy.py", "fisher/_operator.py"}
MAX_LINES = 400


@dataclass(frozen=True)
class Import:
    """One imported module, or one name out of it, with its place."""

    target: str
    line: int
    inside_function: bool = False
    for_types_only: bool = False


def module_name(path: str) -> str:
    """Return the dotted name of a file of the package, ``"solvers/_scipy.py"`` for instance."""
    parts = ["sknfk", *path.removesuffix(".py").split("/")]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: str, source: str) -> list[Import]:
    """Return every import of a file, with relative ones made absolute."""
    package = module_name(path).split(".")
    if not path.endswith("__init__.py"):
        package = package[:-1]
    return list(_walk(ast.parse(source), package, False, False))


def _walk(node: ast.AST, package: list[str], inside_function: bool, for_types_only: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, node.lineno, inside_function, for_types_only)
    elif isinstance(node, ast.ImportFrom):
        base = package[: len(package) - node.level + 1] if node.level else []
        prefix = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            yield Import(f"{prefix}.{alias.name}", node.lineno, inside_function, for_types_only)
    inside_function |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for_types_only |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, package, inside_function, for_types_only)


def attributes_of(source: str) -> list[tuple[str, int]]:
    """Return every dotted name that a file writes out, ``torch.distributed.all_reduce`` say."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)]
    return [(ast.unparse(node), node.lineno) for node in nodes]


def room_of(dotted: str) -> str:
    """Return the room of a dotted name of the package; the package itself is ``""``."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else ""


def violations(path: str, source: str) -> list[str]:
    """Return one sentence per rule that a file of the package breaks."""
    found = [f"{path}:{line}: {text}" for line, text in sorted(_broken_rules(path, source))]
    n_lines = source.count("\n")
    if n_lines > MAX_LINES:
        found.append(f"{path}: has {n_lines} lines; the limit is {MAX_LINES}")
    return found


def _broken_rules(path: str, source: str) -> Iterator[tuple[int, str]]:
    room = room_of(module_name(path))
    if room and room not in LEVELS:
        yield 1, f"'{room}' has no level; give it one in LEVELS"
        return
    for imported in imports_of(path, source):
        for text in _broken_by_import(path, room, imported):
            yield imported.line, text
    yield from _broken_by_attributes(path, source)


def _broken_by_import(path: str, room: str, imported: Import) -> Iterator[str]:
    target, top = imported.target, imported.target.split(".")[0]
    if top == "sknfk" and not may_import(room, room_of(target)):
        yield f"'{room}' must not import '{target}'"
    if _is_private(target, "sklearn") and path != "_sklearn.py":
        yield f"only _sklearn.py may import '{target}'"
    if top == "scipy" and path not in SCIPY_FILES:
        yield f"scipy belongs in {' and '.join(sorted(SCIPY_FILES))}, not here"
    if f"{target}.".startswith("torch.distributed.") and path != "distributed.py":
        yield "only distributed.py may import torch.distributed"
    if imported.inside_function and top not in OPTIONAL_PACKAGES:
        yield f"'{target}' is imported inside a function; only optional packages may be"


def _broken_by_attributes(path: str, source: str) -> Iterator[tuple[int, str]]:
    for name, line in attributes_of(source):
        if name == "torch.distributed" and path != "distributed.py":
            yield line, "only distributed.py may name torch.distributed"
        if _is_private(name, "sklearn") and path != "_sklearn.py":
            yield line, f"only _sklearn.py may name '{name}'"


def may_import(room: str, other: str) -> bool:
    """Tell whether a file of ``room`` may import from the room ``other``."""
    if room in ("", other):
        return True  # the package's own __init__ gathers; a room knows itself
    if other not in LEVELS:
        return False  # a room that imports the package's __init__ goes upward
    if LEVELS[room] == 1:
        return other in FOUNDATIONS and room not in FOUNDATIONS
    return LEVELS[other] < LEVELS[room]


def _is_private(dotted: str, package: str) -> bool:
    first, *rest = dotted.split(".")
    return first == package and any(part.startswith("_") and not part.startswith("__") for part in rest)


def cycles(sources: dict[str, str]) -> list[list[str]]:
    """Return the circles of files that import each other; imports for type checkers alone do not count."""
    names = {module_name(path): path for path in sources}
    graph = {path: sorted(_loaded_by(path, source, names)) for path, source in sources.items()}
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(path: str, trail: list[str]) -> None:
        if path in trail:
            found.append([*trail[trail.index(path) :], path])
        elif path not in done:
            for other in graph[path]:
                visit(other, [*trail, path])
            done.add(path)

    for path in graph:
        visit(path, [])
    return found


def _loaded_by(path: str, source: str, names: dict[str, str]) -> set[str]:
    """Return the files that a file's import statements name, itself left out."""
    loaded = set()
    for imported in imports_of(path, source):
        if imported.for_types_only:
            continue
        for name in (imported.target, imported.target.rpartition(".")[0]):
            if name in names:
                loaded.add(names[name])
                break
    return loaded - {path}
