"""Kills fits of the real LeNet-5 and lets others go on: ``python -m tests.kills FOLDER N_RANDOM [--once]``.

A process of its own that has computed no gradient forks one for each fit: torch cannot be forked once it has. Kills are
SIGKILL, at random moments, and before and after every call that writes, syncs or renames a file, and in the middle of
every file. It prints what it did as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sknfk import NFKTransformer
from sknfk.estimators import _journal

N_ROWS, K = 256, 8
TIMEOUT = 120.0


class Faults:
    """Counts the places where a process could end while it writes, and ends it at one of them."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at = kill_at
        self.sites: list[str] = []

    def reach(self, site: str) -> None:
        if len(self.sites) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.sites.append(site)

    def install(self) -> None:
        import safetensors.torch

        for module, name in ((os, "fsync"), (os, "replace")):
            setattr(module, name, self._around(getattr(module, name), name))
        save = safetensors.torch.save_file

        def save_in_parts(tensors: Any, path: Path, metadata: Any) -> None:
            self.reach("write: begins")
            save(tensors, path, metadata)
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            self.reach("write: half")
            path.write_bytes(whole)
            self.reach("write: whole, without its digest")

        safetensors.torch.save_file = save_in_parts

    def _around(self, function: Callable, name: str) -> Callable:
        def wrapped(*arguments: Any) -> Any:
            self.reach(f"{name}: before")
            result = function(*arguments)
            self.reach(f"{name}: after")
            return result

        return wrapped


def case() -> tuple[nn.Module, np.ndarray]:
    from .proofs.lenet import lenet5, mnist_images

    return lenet5(), mnist_images(N_ROWS)


def forked(work: Callable[[], None]) -> int:
    """Start a process that does the work and ends."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
    return pid


def ended(pid: int) -> int:
    """Wait for a process; return its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Trial:
    """A folder with the checkpoint of one fit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model, self.X = case()

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    def clean(self) -> None:
        for path in self.folder.iterdir():
            path.unlink()

    def fit(self, faults: Faults | None = None, name: str = "components") -> None:
        if faults is not None:
            faults.install()
        nfk = NFKTransformer(self.model, K, solver="krylov", batch_size=64, checkpoint=self.checkpoint, random_state=0)
        nfk.fit(self.X)
        (self.folder / name).write_bytes(nfk.components_.tobytes() + nfk.singular_values_.tobytes())
        if faults is not None:
            (self.folder / "sites").write_text(json.dumps(faults.sites))

    def resumed(self) -> bytes:
        """Let another process go on, and return what it finds."""
        status = ended(forked(self.fit))
        if status != 0:
            raise RuntimeError(f"The fit that went on ended with status {status}.")
        return (self.folder / "components").read_bytes()


def main(folder: Path, n_random: int, once: bool = False) -> dict[str, Any]:
    """Kill at every place, or once at each kind of place, and at random moments."""
    torch.set_num_threads(1)
    _journal.WRITE_EVERY = 0.05  # within passes too
    trial = Trial(folder)
    started = time.monotonic()
    assert ended(forked(lambda: trial.fit(Faults()))) == 0
    seconds = time.monotonic() - started
    expected = (folder / "components").read_bytes()
    sites = json.loads((folder / "sites").read_text())
    found: dict[str, Any] = {"n_rows": N_ROWS, "n_components": K, "fit_seconds": round(seconds, 3)}

    killed, equal = [], 0
    places = [(sites.index(kind), kind) for kind in dict.fromkeys(sites)] if once else list(enumerate(sites))
    for index, site in places:
        trial.clean()
        if ended(forked(lambda index=index: trial.fit(Faults(index)))) == -signal.SIGKILL:
            killed.append(site)
            equal += trial.resumed() == expected
    found["sites"] = {"reached": len(killed), "kinds": sorted(set(killed)), "equal": equal}

    rng = random.Random(0)
    n_killed = n_equal = 0
    for _ in range(n_random):
        trial.clean()
        pid = forked(trial.fit)
        time.sleep(rng.uniform(0, seconds))
        os.kill(pid, signal.SIGKILL)
        n_killed += ended(pid) == -signal.SIGKILL
        n_equal += trial.resumed() == expected
    found["random"] = {"tried": n_random, "killed": n_killed, "equal": n_equal}
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), once="--once" in sys.argv)))
