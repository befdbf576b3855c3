"""Peak memory of a call: what it adds to the process, read from outside of Python's allocator."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

STATUS = Path("/proc/self/status")
INTERVAL = 0.005  # seconds between two looks


def peak_of(function: Callable[[], Any], device: torch.device) -> dict[str, int]:
    """Call a function; return the bytes that it added at its peak.

    On a GPU torch counts them. On a CPU a thread looks at the process's anonymous pages: pages of a memory-mapped
    file, which the system may drop at any time, are no working memory. Where the system has no such count, it is
    the growth of the largest resident size, mapped pages included.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return {"working_bytes": torch.cuda.max_memory_allocated(device) - before, "counted": "device memory"}
    if not STATUS.exists():
        before = largest_resident()
        function()
        return {"working_bytes": largest_resident() - before, "counted": "resident memory"}
    with Watch() as watch:
        function()
    return {
        "working_bytes": watch.peak - watch.before,
        "before_bytes": watch.before,
        "largest_resident_bytes": largest_resident(),
        "counted": "anonymous memory",
    }


class Watch:
    """Looks at the process's anonymous memory every few milliseconds."""

    def __enter__(self) -> Watch:
        self.before = self.peak = anonymous_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.is_set():
            self.peak = max(self.peak, anonymous_bytes())
            time.sleep(INTERVAL)


def anonymous_bytes() -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return largest_resident()


def largest_resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
