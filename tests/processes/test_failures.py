"""Where one process fails, ends or goes another way, none waits for ever, and each says why."""

import json
import os
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from sknfk import NFKTransformer
from sknfk._torch import total_memory

from ..cases import mlp, rows
from .conftest import ROOT, environment, study
from .failures import FITTED, SHORT_TIMEOUT

SAME = "must be the same in every process"
EXPECTED = {
    "the same rows": ("ValueError", r"Got the same 90 rows in all 2; pass each rank its own rows"),
    "none at all": ("ValueError", r"X must have at least 2 rows to fit, of all processes\. Got 0 sample"),
    "another width in one": ("ValueError", rf"The shape of a row of X {SAME}\. Got \(., ?\) and \(.,\)"),
    "no model": ("ValueError", r"`model` must be a module, a factory or a FrozenEstimator .* Got None; train it"),
    "a net to be trained": ("ValueError", r"would see the rows of one\. Got NeuralNetClassifier; train it first"),
    "exact by name": ("ValueError", r"`solver` must be one of \(.*\) where several .* Got 'exact'"),
    "memory": ("ValueError", r"`memory` must be None where several processes fit together\. Got .*`truncate`"),
    "other options": ("ValueError", rf"`n_components` {SAME}\. Got [45] and [45]; let all of them make the same"),
    "other weights": ("ValueError", rf"the digest of `model` {SAME}"),
    "another solver's course": ("OtherProcessError", r"must take the same course\. Got 'the end', 'sums of shapes"),
    "only one fits": ("OtherProcessError", r"call the same methods in each process"),
    "frozen": (None, ""),
}
SECONDS = 30.0  # on a machine that does much else; the group's timeout is 60, SHORT_TIMEOUT where one stands still
# Rounding in sums of another order, through a few Krylov sweeps.
FLOAT64_RTOL = 1e-9


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return study("failures", tmp_path_factory.mktemp("failures"))


@pytest.mark.parametrize("case", EXPECTED)
def test_every_process_says_in_words_what_is_wrong(case, found):
    kind, text = EXPECTED[case]
    for answers in found["refusals"]:
        assert answers[case]["kind"] == kind
        assert re.search(text, answers[case]["text"]), answers[case]["text"]
        assert answers[case]["seconds"] < SECONDS


def test_an_error_of_one_process_is_told_to_the_others(found):
    first, second = (answers["NaN in one"] for answers in found["refusals"])
    assert (second["kind"], second["text"][:20]) == ("ValueError", "Input X contains NaN")
    assert first["kind"] == "OtherProcessError"
    assert first["text"].startswith("Process 1 of 2 that fit together has failed: Input X contains NaN")


def test_a_callback_of_one_process_stops_all(found):
    assert [answers["n_sweeps of one that is stopped"] for answers in found["agreements"]] == [1, 1]


def test_explain_says_how_many_fit_together_and_where_blocks_are(found):
    for answers in found["agreements"]:
        lines = answers["explanation"].splitlines()
        assert lines[0].startswith("45 examples on 2 processes, 66 parameters, 4 components")
        assert any(
            re.match(r"blocks +whole: By assumed rates, spread by parameter, a sweep saves", line) for line in lines
        )


def test_a_sketch_is_taken_where_blocks_do_not_fit_and_its_rows_are_spread(found):
    assert [answers["without room for blocks"] for answers in found["agreements"]] == [("sketch", "whole")] * 2


def test_processes_of_one_machine_share_its_memory(found):
    assert {answers["max_memory"] for answers in found["agreements"]} == {total_memory(torch.device("cpu")) // 4}


def test_a_process_that_is_killed_ends_the_others_with_an_error(found):
    *others, killed = found["died"]
    assert killed == -signal.SIGKILL
    for answer in others:
        assert answer["kind"] == "OtherProcessError"
        assert "One has ended or does not answer" in answer["text"]
        assert answer["seconds"] < SECONDS


def test_a_process_that_stands_still_ends_the_others_after_the_groups_timeout(found):
    *others, stopped = found["stood still"]
    assert stopped == -signal.SIGKILL  # by the others, after they had ended
    for answer in others:
        assert answer["kind"] == "OtherProcessError"
        assert "One has ended or does not answer" in answer["text"]
        assert answer["seconds"] < SECONDS
    assert max(answer["seconds"] for answer in others) > SHORT_TIMEOUT  # its connections were open all the time


def test_a_process_short_of_memory_alone_works_on_fewer_rows_and_the_fit_is_that_of_one_process(found):
    expected, answers = found["memory of all"], found["less memory in one"]
    assert [answer["batch_size_"] for answer in (expected, *answers)] == [16, 16, 8]
    for answer in answers:
        for name in FITTED:
            error = np.linalg.norm(answer[name] - expected[name]) / np.linalg.norm(expected[name])
            assert error < FLOAT64_RTOL, name


def test_a_fit_goes_on_from_the_checkpoint_to_the_same_bits(found):
    assert found["kept"] == ["checkpoint", "checkpoint.previous"]
    for resumed, whole in zip(found["resumed"], found["whole"], strict=True):
        assert resumed["read"] == [1] and whole["read"] == []
        assert resumed["n_sweeps"] == whole["n_sweeps"] > 1
        for name in ("components_", "singular_values_"):
            assert resumed[name].tobytes() == whole[name].tobytes(), name


def test_a_checkpoint_of_other_shares_of_the_rows_is_refused(found):
    for answer in found["other number of processes"]:
        assert answer["kind"] == "CheckpointMismatchError"
        assert "the rows of each process was [30, 30, 30] and is [45, 45]" in answer["text"]


def test_processes_of_torchrun_that_have_not_joined_are_told_to(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a run")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"must join before they fit together\. Got no process group; call"):
        NFKTransformer(mlp(), 2).fit(rows(20))


SCRIPT = """
import os
import sys
from pathlib import Path
from torch import distributed
from sknfk import NFKTransformer
from tests.cases import mlp, rows

distributed.init_process_group("gloo")
rank, size = distributed.get_rank(), distributed.get_world_size()
nfk = NFKTransformer(mlp(), 3, solver="krylov", random_state=0).fit(rows(60)[rank::size])
Path(f"{sys.argv[1]}.{rank}").write_text(str(nfk.singular_values_.tolist()))
distributed.destroy_process_group()
os._exit(0)  # threads of gloo may abort an interpreter that is being taken down
"""


def test_a_script_fits_on_the_processes_of_torchrun(tmp_path):
    script, found = tmp_path / "script.py", tmp_path / "found"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, str(script), str(found)], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    # A file for each: two processes may print within one line.
    values = [json.loads(Path(f"{found}.{rank}").read_text()) for rank in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = NFKTransformer(mlp(), 3, solver="krylov", random_state=0).fit(rows(60))
    assert values[0] == values[1]
    np.testing.assert_allclose(values[0], alone.singular_values_, rtol=1e-9)
    assert os.environ.get("RANK") is None
