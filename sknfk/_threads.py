"""What the threads of a process share, and how several may work at once."""

from __future__ import annotations

import contextlib
import copy
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["FORWARD_MODE", "GENERATOR", "OneAtATime", "random_states_kept", "sharing_copy"]


class OneAtATime:
    """A lock that a thread may take again, and that a forked process finds free.

    The thread that held it is not there in the child, and would never let it go.
    """

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):  # where processes can be forked
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold it, once no other thread does."""
        with self._lock:
            yield

    @contextlib.contextmanager
    def held_if_free(self) -> Iterator[bool]:
        """Hold it without waiting, and say whether no other thread did."""
        lock = self._lock
        is_mine = lock.acquire(blocking=False)
        try:
            yield is_mine
        finally:
            if is_mine:
                lock.release()


# torch has one global generator in a process: who seeds it holds it to the end of the draws.
GENERATOR = OneAtATime()
# torch has one level of forward-mode differentiation in a process: tangents of two threads would mix.
FORWARD_MODE = OneAtATime()


@contextlib.contextmanager
def random_states_kept(device: torch.device) -> Iterator[None]:
    """Put torch's random states of the CPU and a device back afterwards.

    A thread that draws on a seed of its own at that moment is not disturbed; it puts
    back itself what it found.
    """
    is_cuda = device.type == "cuda"
    with GENERATOR.held_if_free() as is_free:
        states = (torch.get_rng_state(), torch.cuda.get_rng_state(device) if is_cuda else None) if is_free else None
    try:
        yield
    finally:
        with GENERATOR.held_if_free() as is_free:
            if is_free and states is not None:
                torch.set_rng_state(states[0])
                if states[1] is not None:
                    torch.cuda.set_rng_state(states[1], device)


class _SharesTensors(TorchFunctionMode):
    """Lets ``copy.deepcopy`` keep tensors, those too that cannot be copied because they have a history."""

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if func is Tensor.__deepcopy__ else func(*args, **(kwargs or {}))


def sharing_copy(module: nn.Module) -> nn.Module:
    """Copy a module but not its tensors.

    Gradients are taken by substituting a module's parameters for a while. A thread
    that does so in a copy of its own is not seen by the others.
    """
    with _SharesTensors():
        # Parameters are copied by a method of their own, which no mode sees.
        return copy.deepcopy(module, {id(parameter): parameter for parameter in module.parameters()})
