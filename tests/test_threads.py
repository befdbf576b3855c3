"""Copies that share tensors, and locks: what lets several threads work at once."""

import contextlib
import os
import signal
import threading

import pytest
import torch
from torch import nn

from sknfk._threads import OneAtATime, sharing_copy

from .cases import DataDependent, drawn_rows, mlp, recurrent, seeded, tied


class KeepsActivations(nn.Module):
    """Holds what it last computed, with its history: ``copy.deepcopy`` refuses such a module."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(5, 4), nn.Linear(4, 3)
        self.kept = {}

    def forward(self, x):
        self.kept = {"hidden": [torch.tanh(self.body(x))]}
        return self.head(self.kept["hidden"][0])


def normalised(norm):
    return seeded(lambda: nn.Sequential(norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, 3)))


def hooked():
    model = mlp()
    model[0].register_forward_hook(lambda layer, inputs, output: 2 * output)
    return model


MODULES = {
    "layers": mlp,
    "one weight under two names": tied,
    "recurrent": recurrent,
    "kept activations": lambda: seeded(KeepsActivations),
    "data-dependent": lambda: seeded(DataDependent),
    "a hook": hooked,
    "spectral norm": lambda: normalised(nn.utils.parametrizations.spectral_norm),
    "spectral norm by a hook": lambda: normalised(nn.utils.spectral_norm),
    "weight norm": lambda: normalised(nn.utils.parametrizations.weight_norm),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_sharing_copy_computes_the_same_with_the_same_tensors(name):
    module = MODULES[name]()
    x = drawn_rows(6)
    expected = module(x)
    own = sharing_copy(module)
    assert torch.equal(own(x), expected)
    assert all(mine is not its for mine, its in zip(own.modules(), module.modules(), strict=True))
    for named in ("named_parameters", "named_buffers"):
        found, given = (dict(getattr(m, named)(remove_duplicate=False)) for m in (own, module))
        assert found.keys() == given.keys()
        assert all(found[key] is given[key] for key in given)


@pytest.mark.parametrize("name", MODULES)
def test_parameters_substituted_in_a_sharing_copy_are_seen_there_alone(name):
    module = MODULES[name]()
    x = drawn_rows(6)
    expected = module(x)
    own = sharing_copy(module)
    halved = {key: 0.5 * value.detach() for key, value in own.named_parameters()}
    seen = []
    own.register_forward_hook(lambda *_: seen.append(module(x)))
    assert not torch.allclose(torch.func.functional_call(own, halved, (x,)), expected)
    assert torch.equal(seen[0], expected)


def test_a_lock_is_held_by_one_thread_which_may_take_it_again():
    lock, order = OneAtATime(), []

    def other():
        with lock.held():
            order.append("other")

    thread = threading.Thread(target=other)
    with lock.held(), lock.held():
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def succeeds_forked(work):
    """Run a function in a forked process; whether it came to its end within ten seconds."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(10)  # a lock that is never let go would keep the child
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_finds_the_lock_free_and_may_leave_what_its_parent_held():
    lock, is_held, may_end = OneAtATime(), threading.Event(), threading.Event()

    def take():
        with lock.held():
            pass

    def hold():
        with lock.held():
            is_held.set()
            may_end.wait(10)

    with contextlib.ExitStack() as holding:
        holding.enter_context(lock.held())
        assert succeeds_forked(lambda: (take(), holding.close(), take()))
    thread = threading.Thread(target=hold)
    thread.start()
    is_held.wait(10)
    assert succeeds_forked(take)
    may_end.set()
    thread.join()
