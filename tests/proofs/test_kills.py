"""A killed fit of the real LeNet-5 goes on to the same bits, wherever it was killed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..zoo_data import requires_zoo

pytest.importorskip("safetensors")
pytestmark = [requires_zoo, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")]

ROOT = Path(__file__).resolve().parents[2]
N_RANDOM = 30
KINDS = {
    "write: begins",
    "write: half",
    "write: whole, without its digest",
    "fsync: before",
    "fsync: after",
    "replace: before",
    "replace: after",
}


def run(*arguments, **options):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])  # the folder of zoo/ is in it
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True, **options
    )


@pytest.mark.parametrize(
    "n_random, option, n_places",
    [(3, ["--once"], len(KINDS)), pytest.param(N_RANDOM, [], 4 * len(KINDS), marks=pytest.mark.slow)],
    ids=["a few", "every place"],
)
def test_a_killed_fit_goes_on_to_the_same_bits(n_random, option, n_places, tmp_path):
    done = run("-m", "tests.kills", tmp_path, n_random, *option, timeout=1200)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    sites, moments = found["sites"], found["random"]
    assert set(sites["kinds"]) == KINDS
    assert sites["reached"] >= n_places
    assert sites["equal"] == sites["reached"]
    assert moments["killed"] >= n_random // 2  # the others had ended by themselves
    assert moments["equal"] == moments["tried"] == n_random


FULL_DISK = """
import resource, sys, warnings
from sknfk import NFKTransformer
from sknfk.exceptions import CheckpointWarning
from tests.proofs.lenet import lenet5, mnist_images

path, limit = sys.argv[1], int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    nfk = NFKTransformer(lenet5(), 8, solver="krylov", batch_size=64, checkpoint=path, random_state=0)
    nfk.fit(mnist_images(256))
print(sum(issubclass(one.category, CheckpointWarning) for one in caught), nfk.components_.sum())
"""


def test_a_disk_that_fills_up_costs_no_older_checkpoint_and_no_fit(tmp_path):
    path = tmp_path / "fit"
    whole = run("-c", FULL_DISK, path, 0)
    assert whole.returncode == 0, whole.stderr
    size = path.stat().st_size
    for generation in tmp_path.iterdir():
        generation.unlink()
    # Room for the first generations, not for the last.
    limited = run("-c", FULL_DISK, path, size - 1)
    assert limited.returncode == 0, limited.stderr
    assert limited.stdout.split() == ["1", whole.stdout.split()[1]]
    assert path.exists() and path.stat().st_size < size
    assert not [name for name in os.listdir(tmp_path) if "partial" in name]
    again = run("-c", FULL_DISK, path, 0)
    assert again.stdout.split() == ["0", whole.stdout.split()[1]], again.stderr
