"""Arithmetic inside and outside: what is set for a computation is put back after it."""

import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from sknfk import NFKTransformer
from sknfk import _torch as sknfk_torch
from sknfk._torch import _PRECISION_SWITCHES, exact_arithmetic, seeded_torch

from .cases import FLOAT32_RTOL, rows, seeded

CPU = torch.device("cpu")
# Roundings of float32, some thousand of them at random: bfloat16 is off by 2e-3, TF32 by 5e-4.
EXACT_RTOL = 1e-6


def settings():
    """Everything that exact_arithmetic changes."""
    return {
        "precision": [switch.fp32_precision for switch in _PRECISION_SWITCHES],
        "fast encoders": torch.backends.mha.get_fastpath_enabled(),
        "attention": (torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "autocast": torch.is_autocast_enabled("cpu"),
        "generator": torch.get_rng_state().tolist(),
    }


@pytest.fixture(params=["as torch sets them", "otherwise"])
def before(request):
    """The caller's settings, torch's own or not."""
    found = [switch.fp32_precision for switch in _PRECISION_SWITCHES]
    fast = torch.backends.mha.get_fastpath_enabled()
    if request.param == "otherwise":
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.mha.set_fastpath_enabled(False)
    yield settings()
    torch.backends.mha.set_fastpath_enabled(fast)
    for switch, precision in zip(_PRECISION_SWITCHES, found, strict=True):
        switch.fp32_precision = precision


@pytest.mark.parametrize("keeps", [True, False])
def test_exact_arithmetic_leaves_every_setting_as_it_was(before, monkeypatch, keeps):
    monkeypatch.setattr(sknfk_torch, "_onednn_keeps_float32", lambda: keeps)
    with torch.no_grad(), exact_arithmetic(CPU):
        assert torch.is_grad_enabled()
        assert not torch.backends.mha.get_fastpath_enabled()
        torch.randn(3)
    assert settings() == before
    with pytest.raises(KeyboardInterrupt), exact_arithmetic(CPU):
        raise KeyboardInterrupt
    assert settings() == before


def test_trying_the_route_of_products_leaves_every_setting_as_it_was(before):
    sknfk_torch._onednn_keeps_float32.cache_clear()
    assert sknfk_torch._onednn_keeps_float32() in (True, False)
    assert settings() == before


def test_nested_uses_put_back_what_they_found():
    with exact_arithmetic(CPU):
        inside = settings()
        with exact_arithmetic(CPU):
            pass
        assert settings() == inside


def products():
    """Products of the library's shapes: one of batches, one of sums over many rows, one of small blocks."""
    generator = torch.Generator().manual_seed(1)
    for n_rows, n_inner, n_columns in [(128, 5000, 74), (138, 30_000, 138), (9000, 64, 42), (7, 3, 5)]:
        a = torch.randn(n_rows, n_inner, generator=generator)
        yield a, torch.randn(n_inner, n_columns, generator=generator)


@pytest.mark.parametrize("rounds", [True, False], ids=["rounding allowed outside", "not allowed"])
def test_products_in_float32_are_exact_inside_whatever_their_route(rounds):
    found = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16" if rounds else found
    try:
        for a, b in products():
            expected = a.double() @ b.double()
            with exact_arithmetic(CPU):
                results = [a @ b, torch.zeros_like(expected).float().addmm_(a, b), (a[None] @ b[None])[0]]
            for result in results:
                assert float((result - expected).norm()) < EXACT_RTOL * float(expected.norm())
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = found


@pytest.fixture
def tried_anew():
    sknfk_torch._onednn_keeps_float32.cache_clear()
    yield
    sknfk_torch._onednn_keeps_float32.cache_clear()


def precision_inside():
    with exact_arithmetic(CPU):
        return torch.backends.mkldnn.matmul.fp32_precision


def test_products_stay_where_they_are_exact_on_processors_with_tiles_of_bfloat16(tried_anew, monkeypatch):
    monkeypatch.setattr(sknfk_torch, "_has_bfloat16_tiles", lambda: True)
    assert not sknfk_torch._onednn_keeps_float32()
    assert precision_inside() == "ieee"


def test_products_stay_where_they_are_exact_if_the_other_route_is_found_to_round(tried_anew, monkeypatch):
    monkeypatch.setattr(sknfk_torch, "_has_bfloat16_tiles", lambda: False)
    exact = torch.Tensor.addmm_

    def rounding(self, a, b):
        return exact(self, a.bfloat16().float(), b.bfloat16().float())

    monkeypatch.setattr(torch.Tensor, "addmm_", rounding)
    assert not sknfk_torch._onednn_keeps_float32()
    assert precision_inside() == "ieee"


def test_products_take_the_other_route_where_it_was_tried_and_is_exact(monkeypatch):
    monkeypatch.setattr(sknfk_torch, "_onednn_keeps_float32", lambda: True)
    assert precision_inside() == "bf16"  # allowed to round, on processors that do not


def encoder():
    """A transformer encoder over 5 positions, in eval mode: torch would take its fused path."""

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.1, batch_first=True)
            self.embed, self.body, self.head = nn.Linear(1, 6), nn.TransformerEncoder(layer, 1), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.body(self.embed(x[:, :, None])).mean(1))

    return seeded(Encoder)


@pytest.mark.filterwarnings("ignore:.*nested_tensor:UserWarning")
@pytest.mark.parametrize("options", [{"solver": "paper"}, {"engine": "jvp"}, {"engine": "vmap"}, {}])
def test_encoders_in_eval_mode_have_forward_mode_products(options):
    X = rows(30)
    nfk = NFKTransformer(encoder(), 3, random_state=0, **options).fit(X)
    expected = NFKTransformer(encoder(), 3, engine="loop", random_state=0).fit(X)
    assert nfk.engine_ == options.get("engine", "jvp" if options else nfk.engine_)
    assert nfk.score(X) == pytest.approx(expected.score(X), rel=FLOAT32_RTOL)
    assert abs(nfk.fisher_vectors(X) - expected.fisher_vectors(X)).max() < 1e-9
    assert torch.backends.mha.get_fastpath_enabled()


def test_memory_of_this_machine_is_known():
    assert 0 < sknfk_torch.available_memory(CPU) <= sknfk_torch.total_memory(CPU)


def test_a_system_that_does_not_tell_its_memory_is_taken_for_a_small_one(monkeypatch, tmp_path):
    monkeypatch.setattr(sknfk_torch, "Path", lambda name: tmp_path / "absent")
    monkeypatch.delattr(sknfk_torch.os, "sysconf")
    assert sknfk_torch.total_memory(CPU) == sknfk_torch.available_memory(CPU) == 8 * 2**30


@pytest.mark.parametrize("device, is_child, n_warnings", [("cuda", True, 1), ("cuda", False, 0), ("cpu", True, 0)])
def test_processes_that_share_a_gpu_are_warned_once(device, is_child, n_warnings, monkeypatch):
    monkeypatch.setattr(sknfk_torch.multiprocessing, "parent_process", lambda: object() if is_child else None)
    sknfk_torch.warn_of_a_shared_gpu.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            sknfk_torch.warn_of_a_shared_gpu(device)
    assert len(caught) == n_warnings


def test_threads_that_overlap_leave_every_setting_as_it_was(before):
    entered, left = threading.Event(), threading.Event()

    def first():
        with exact_arithmetic(CPU):
            entered.wait(10)
        left.set()

    def second():
        with exact_arithmetic(CPU):
            entered.set()
            left.wait(10)
            inside.append(settings())

    inside = []
    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert settings() == before
    with exact_arithmetic(CPU):
        assert inside == [settings()]


class Overlapping:
    """Exact arithmetic in a thread of its own, begun and ended when the test says so."""

    def __init__(self):
        self._begun, self._may_end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        self._begun.wait(10)

    def _work(self):
        with exact_arithmetic(CPU):
            self._begun.set()
            self._may_end.wait(10)

    def end(self):
        self._may_end.set()
        self._thread.join()


def test_draws_on_a_seed_are_the_same_whatever_other_threads_compute():
    state = torch.get_rng_state()
    with seeded_torch(0):
        expected = torch.randn(9).split(3)
    before = Overlapping()
    with seeded_torch(0):
        first = torch.randn(3)
        before.end()
        second = torch.randn(3)
        Overlapping().end()
        begun = Overlapping()
        third = torch.randn(3)
    assert torch.equal(torch.get_rng_state(), state)
    begun.end()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, (first, second, third), expected))


def test_threads_draw_on_their_seeds_one_after_the_other():
    def draws(seed):
        with seeded_torch(seed):
            first = torch.randn(3)
            with seeded_torch(9):
                time.sleep(0.01)
            return torch.cat([first, torch.randn(3)])

    state = torch.get_rng_state()
    expected = [draws(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(torch.equal, pool.map(draws, range(4)), expected))
    assert torch.equal(torch.get_rng_state(), state)
