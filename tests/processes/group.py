"""Groups of processes that fit together: ``python -m tests.processes.group STUDY FOLDER`` pickles what each has found.

A process that has computed no gradient forks one for each rank: torch cannot be forked once it has, and importing the
library anew in each would take longer than the fits.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import sys
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # torch.func imports it at its first call: once here, not in each process
from torch import distributed as dist

Work = Callable[[int, int, Path], Any]  # (rank, size, folder of its own)

TIMEOUT = timedelta(seconds=60)
DEADLINE = 90.0


def run(work: Work, size: int, folder: Path, joined: bool = True) -> list[Any]:
    """Let a group of processes do the work; return what each returns, or its exit status, negative for a signal."""
    folder.mkdir(parents=True, exist_ok=True)
    pids = [_forked(work, rank, size, folder, joined) for rank in range(size)]
    statuses = _ended(pids)
    found = []
    for rank, status in enumerate(statuses):
        answer = folder / f"answer{rank}"
        found.append(pickle.loads(answer.read_bytes()) if status == 0 else status)
        answer.unlink(missing_ok=True)
    (folder / "store").unlink(missing_ok=True)
    return found


def _forked(work: Work, rank: int, size: int, folder: Path, joined: bool) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        if joined:
            store = f"file://{folder / 'store'}"
            dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=TIMEOUT)
        (folder / f"answer{rank}").write_bytes(pickle.dumps(work(rank, size, folder)))
        os._exit(0)
    except BaseException as error:
        print(f"process {rank} of {size}: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)


def _ended(pids: list[int]) -> list[int]:
    """Wait for processes; kill those that are still there at the deadline."""
    statuses: dict[int, int] = {}
    started = time.monotonic()
    while len(statuses) < len(pids):
        for pid in pids:
            if pid not in statuses:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    statuses[pid] = os.waitstatus_to_exitcode(status)
                elif time.monotonic() - started > DEADLINE:
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return [statuses[pid] for pid in pids]


def told(work: Work) -> Work:
    """Return the kind and words of an error in the place of a result, and the seconds that it took."""

    def wrapped(rank: int, size: int, folder: Path) -> dict[str, Any]:
        started = time.monotonic()
        try:
            work(rank, size, folder)
        except Exception as error:
            return {"kind": type(error).__name__, "text": str(error), "seconds": time.monotonic() - started}
        return {"kind": None, "text": "", "seconds": time.monotonic() - started}

    return wrapped


def main(study: str, folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found = importlib.import_module(f"tests.processes.{study}").study(folder)
    (folder / "found").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
