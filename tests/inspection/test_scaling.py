from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sknfk.inspection import ScalingDisplay

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "scaling.json"


def test_exponents_are_slopes_and_stand_in_the_legend():
    powers = {"line": 1, "square": 2}
    seconds = {name: {n: n**power / 7 for n in (512, 1024, 2048)} for name, power in powers.items()}
    display = ScalingDisplay(seconds=seconds).plot()
    assert display.exponents_ == pytest.approx(powers)
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["line: N^1.00", "square: N^2.00"]
    assert (display.ax_.get_xscale(), display.ax_.get_yscale()) == ("log", "log")


def test_one_point_has_no_exponent():
    display = ScalingDisplay(seconds={"once": {100: 1.0}}).plot()
    assert np.isnan(display.exponents_["once"])
    assert display.lines_["once"].get_label() == "once"


@pytest.mark.skipif(not RESULTS.exists(), reason="the benchmark was not run")
def test_the_benchmarks_record_is_drawn():
    record = json.loads(RESULTS.read_text())
    display = ScalingDisplay.from_record(record, {"sknfk": "seconds", "Gram": "gram_seconds"})
    rows = record["results"]["rows"]
    assert display.seconds["sknfk"][1024] == rows["time/1024"]["seconds"]["median"]
    assert set(display.seconds["Gram"]) < set(display.seconds["sknfk"])  # it stops earlier
    assert display.exponents_["sknfk"] == pytest.approx(rows["exponents"]["exponent"], abs=0.05)
