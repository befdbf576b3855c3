"""A model of which no block of components fits: 100 million parameters in 8 GB, with two threads."""

import pytest

from benchmarks.bench_sketch import N_SEQUENCES, in_a_process


@pytest.mark.slow
def test_a_transformer_of_100_million_parameters_embeds_256_sequences_within_8_gb(record_property, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # of the process that fits; it would take all cores, or what is set here
    row = in_a_process(N_SEQUENCES, "full")
    for name, value in row.items():
        record_property(name, value)
    assert row["torch_threads"] == 2
    assert row["n_parameters"] > 100e6
    assert row["n_examples"] == 256
    assert row["is_finite"]
    assert row["peak_gb"] < 8
