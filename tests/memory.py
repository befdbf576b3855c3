"""How much memory torch holds at once while a function runs."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from torch.autograd.profiler import profile


def peak_bytes(function: Callable[[], Any]) -> int:
    """Return the most bytes that torch's CPU allocator held at once, beyond those at the start."""
    gc.collect()
    with profile(profile_memory=True) as record:
        result = function()
    del result
    events = [event for event in record.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
