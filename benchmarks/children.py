"""A process of its own for each measurement: no memory, thread pool or cache of the one before.

``call("benchmarks.module:function", **arguments)`` runs the function in a fresh interpreter and returns its dict.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def call(function: str, **arguments: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "benchmarks.children", function, json.dumps(arguments), str(answer)]
        done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ChildFailed(f"{function} failed with status {done.returncode}: {last}", done.stderr)
        return json.loads(answer.read_text())


class ChildFailed(RuntimeError):
    """A measurement's process did not end well; ``details`` is what it wrote on its error stream."""

    def __init__(self, message: str, details: str) -> None:
        super().__init__(message)
        self.details = details


def main(function: str, arguments: str, answer: str) -> None:
    module, _, name = function.partition(":")
    result = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    Path(answer).write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
