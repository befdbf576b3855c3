"""Every benchmark runs, and the page of the docs says what the JSON says."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import __main__ as runner
from benchmarks import bench_ablations as ablations
from benchmarks import bench_components as components
from benchmarks import bench_inversion as inversion
from benchmarks import (
    comparison,
    measuring,
    ours,
    own_pairs,
    tables,
    tables_companions,
    tables_low_rank,
    tables_paper,
    targets,
)
from benchmarks.cases import CASES, LogDensity, zoo
from benchmarks.pairs import PAIRS
from benchmarks.plots import IMAGES, PLOTS, digest
from benchmarks.problem import Problem
from benchmarks.reference import Reference
from benchmarks.text import duration, left_out

from .zoo_data import requires_zoo

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = sorted(path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py"))


def elsewhere(path: Path, patch: pytest.MonkeyPatch) -> None:
    """Results and stored references go to another folder."""
    patch.setattr(runner, "HERE", path)
    patch.setattr("benchmarks.reference.CACHE", path / "cache")
    patch.setattr(runner, "commit", lambda: "abc")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    elsewhere(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Return the record of a benchmark's smoke run, made once."""
    records = {}
    with pytest.MonkeyPatch.context() as patch:
        elsewhere(tmp_path_factory.mktemp("benchmarks"), patch)

        def run(name: str) -> dict:
            if name not in records:
                written = list(runner.measure(name, runner.parse([name, "--smoke"], BENCHMARKS)))
                records[name] = json.loads(written[-1].read_text())
            return records[name]

        yield run


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_runs_its_smoke(name, smoke):
    record = smoke(name)
    assert not record["full"]
    assert record["results"]


def test_page_of_the_docs_is_made_from_the_results():
    for path, text in tables.render(tables.load()).items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, "run python -m benchmarks.tables"


@pytest.mark.parametrize("name", [name for name, plot in PLOTS.items() if not plot.needs_data])
def test_every_picture_is_painted_from_rows_as_a_run_writes_them(name, smoke):
    plot = PLOTS[name]
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=plot.size, layout="constrained")
    plot.paint(figure, smoke(plot.benchmark)["results"]["rows"])
    assert all(ax.has_data() for ax in figure.axes)


@pytest.mark.parametrize("name", PLOTS)
def test_pictures_are_drawn_from_the_results(name):
    results, path = tables.load(), ROOT / IMAGES / name
    if PLOTS[name].benchmark not in results:
        assert not path.exists()
        return
    found = pytest.importorskip("PIL.Image", reason="Pillow reads what a picture holds").open(path).text["Description"]
    assert found == digest(results[PLOTS[name].benchmark]["results"]["rows"]), "run python -m benchmarks.tables"


def test_results_come_from_full_runs():
    assert all(record["full"] for record in tables.load().values())


def test_every_table_is_made_of_rows_as_a_run_writes_them(smoke):
    results = {name: smoke(name) for name in tables.NAMES}
    text = tables.render(results)[tables.PAGE]
    assert "Not measured yet" not in text
    assert all(row["competitor"] in text for row in results["competitors"]["results"]["rows"].values())


def test_tables_of_low_rank_and_retrieval_are_made_of_rows_as_a_run_writes_them(smoke):
    pages = tables_low_rank.render({name: smoke(name) for name in tables_low_rank.NAMES})
    assert not any("Not measured yet" in text for text in pages.values())
    measured = " ".join(pages.values())
    assert all(
        word in measured for word in ("length alone", "Fisher vectors", "PGD-20", "p = 0.8", "r = 10", "From random")
    )


def test_every_table_of_the_companions_is_made_of_rows_as_a_run_writes_them(smoke):
    text = tables_companions.render({name: smoke(name) for name in tables_companions.NAMES})
    assert not any("Not measured yet" in part for part in text.values())
    assert text["docs/measured/gradient_features.inc"].count("of 1 seeds") == len(tables_companions.ORDER)
    for way in ("labels alone", "logits", "hidden", "NFK", "NFK, shuffled"):
        assert f"* - {way}\n" in text["docs/measured/distillation.inc"]


def test_every_table_of_the_paper_is_made_of_rows_as_a_run_writes_them(smoke):
    results = {name: smoke(name) for name in tables_paper.NAMES}
    text = tables_paper.render(results)
    assert not any("Not measured yet" in part for part in text.values())
    for name, words in {
        "spectra": ("mlp\n", "untrained", "identity"),
        "growth": ("Gram matrix", "- Sweeps\n"),
        "eigenvalues": ("sweeps=2",),
        "inversion": ("NFK-3", "NFK-3 to G", "PCA decoding"),
        "components": ("NFK-3", "at random"),
        "rank": ("NFK-2",),
        "table1": ("full Fisher vector",),
        "semi_supervised": ("self-training",),
        "ablations": ("defaults",),
        "training": ("sngan", "not run"),
    }.items():
        assert all(word in text[f"docs/measured/paper_{name}.inc"] for word in words), name
    for name in tables_paper.NAMES:  # where it is from
        origin = text[f"docs/measured/paper_{name}.inc"].split("From benchmarks")[-1]
        assert f"python -m benchmarks {name}" in origin and "second" in origin and "commit abc" in origin


def test_pictures_of_an_inversion_are_the_images_that_its_errors_were_measured_on():
    gan = inversion.tiny()
    gan = replace(gan, X=gan.X[:3], y=gan.y[:3])  # one image of each label: all are shown
    row = inversion.inversion(gan, 3, 0, 40, 20, "cpu")
    pictures = inversion.pictures(gan, row)
    assert list(pictures) == ["the images", *list(row["real"])[:-1]]
    for way, own in list(pictures.items())[1:]:
        assert float(np.square(own - gan.X).mean()) == pytest.approx(row["real"][way]["pixel_error"], rel=1e-3)


def test_components_of_one_label_each_are_pure():
    y = np.arange(60) % 3
    Z = np.stack([np.where(y == 0, 5, y == 1), np.where(y == 1, 5, y == 2)], 1) + 1e-3 * np.arange(60)[:, None]
    found = components.described({"NFK-2": Z, "noise": np.random.default_rng(0).normal(size=(60, 2))}, y)
    assert [set(labels) for labels in found["labels"]] == [{0}, {2}, {1}, {0}]
    assert found["images"][0] == list(range(57, 27, -3))
    assert found["purity"]["NFK-2"] == 1 > found["purity"]["noise"]
    assert 0.4 < found["purity"]["at random"] < 0.6


@pytest.mark.parametrize(
    "seconds, text", [(5, "5 seconds"), (119, "119 seconds"), (150, "2.5 minutes"), (9e3, "2.5 hours")]
)
def test_durations_are_told_in_units_that_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text


def test_the_verdict_on_the_papers_order_is_that_of_the_mean():
    assert tables_companions.verdict([0.5, 0.5, 0.5], [0.6, 0.4, 0.65]) == "yes: +5.0, 2 of 3 seeds"
    assert tables_companions.verdict([0.5, 0.5], [0.4, 0.5]) == "no: -5.0, 0 of 2 seeds"


def test_page_says_what_was_not_measured():
    text = tables.render({})[tables.PAGE]
    assert text.count("Not measured yet") == len(tables.NAMES)


@pytest.mark.parametrize(
    "value, no_larger, verdict",
    [(80, True, "met"), (79, True, "not met"), (99, False, "not met: larger error"), (None, True, "not measured")],
)
def test_a_target_is_met_only_at_an_error_no_larger(value, no_larger, verdict):
    target = next(targets.targets())
    row = {"ratio": {"median": value}, "error_no_larger": no_larger} if value else {}
    results = {target.benchmark: {"results": {"rows": {target.row: row}}}}
    assert target.verdict(results) == verdict


@pytest.mark.parametrize("solver, bound", [("sketch", 0.05), ("sketch-refined", 0.005)])
@pytest.mark.parametrize(
    "error, probe, verdicts",
    [(1.0, 0.985, ["met", "met"]), (1.1, 0.984, ["not met", "not met"]), (0.0, 1.006, ["met", "not met"])],
)
def test_the_worse_of_two_seeds_decides_on_a_sketch(solver, bound, error, probe, verdicts):
    found = {"largest_error_of_leading": [0.0, error * bound], "probe": [0.995, probe]}
    row = {solver: found, "probe_of_the_exact": 0.995}
    results = {"sketch": {"results": {"rows": {"lenet5/2000/64": row}}}}
    judged = [target for target in targets.targets() if target.row == "lenet5/2000/64" and target.path[0] == solver]
    by_name = {target.path[-1]: target.verdict(results) for target in judged}
    assert [by_name[name] for name in found] == verdicts


def test_rows_of_another_run_stay_until_they_are_measured_again(folder, monkeypatch):
    options = runner.parse(["limit"], BENCHMARKS)
    for rows in ({"a": {"x": 1}, "b": {"x": 1}}, {"b": {"x": 2}}):
        monkeypatch.setattr("benchmarks.bench_limit.rows", lambda device, smoke, rows=rows: iter(rows.items()))
        written = list(runner.measure("limit", options))
    found = json.loads(written[-1].read_text())["results"]["rows"]
    assert {key: row["x"] for key, row in found.items()} == {"a": 1, "b": 2}
    assert all({"date", "commit", "device_name"} <= row.keys() for row in found.values())


def test_a_benchmark_that_is_not_complete_keeps_its_rows_where_the_docs_do_not_read(folder, monkeypatch):
    options = runner.parse(["families"], BENCHMARKS)
    monkeypatch.setattr("benchmarks.bench_families.is_complete", lambda rows: len(rows) == 3)
    asked = []
    for made in (["a", "b"], ["c"]):

        def rows(device, smoke, done, made=made):
            asked.append(done)
            return iter({key: {} for key in made}.items())

        monkeypatch.setattr("benchmarks.bench_families.rows", rows)
        written = list(runner.measure("families", options))
        assert [path.parent.name for path in written] == ["partial"] * 2 if made == ["a", "b"] else ["results"]
    assert asked == [frozenset(), frozenset("ab")]
    assert json.loads(written[-1].read_text())["results"]["rows"].keys() == set("abc")
    assert not (written[-1].parent.parent / "partial" / "families.json").exists()


@pytest.mark.parametrize("name", ["rank", "semi_supervised", "table1"])
def test_results_are_complete_only_with_every_draw_of_every_pair(name):
    benchmark = importlib.import_module(f"benchmarks.bench_{name}")
    pairs = [key for key in benchmark.CASES if own_pairs.is_trained(key)]
    rows = {f"{key}{draw}": {} for key in pairs for draw in ("", *(f"/{draw}" for draw in benchmark.DRAWS))}
    assert benchmark.is_complete(rows)
    for missing in (pairs[0], f"{pairs[-1]}/{list(benchmark.DRAWS)[-1]}"):
        assert not benchmark.is_complete({key: row for key, row in rows.items() if key != missing})


def judged() -> list[tuple[str, Path]]:
    """Benchmarks that say when they are complete, and their results."""
    found = [(json.loads(path.read_text())["name"], path) for path in sorted(tables.RESULTS.glob("*.json"))]
    modules = {name: importlib.import_module(f"benchmarks.bench_{name}") for name, _ in found}
    return [(name, path) for name, path in found if hasattr(modules[name], "is_complete")]


@pytest.mark.parametrize("name, path", judged(), ids=lambda value: getattr(value, "stem", ""))
def test_committed_results_are_complete_and_would_not_be_without_a_row(name, path):
    is_complete = importlib.import_module(f"benchmarks.bench_{name}").is_complete
    rows = json.loads(path.read_text())["results"]["rows"]
    assert is_complete(rows)
    for missing in (min(rows), max(rows)):
        assert not is_complete({key: row for key, row in rows.items() if key != missing})


def test_what_is_left_out_has_the_time_and_the_command_of_its_training(smoke):
    text = " ".join(left_out(("sngan",), {"training": smoke("training")}).split())
    assert "what needs sngan" in text and "hours here" in text
    assert "``python -m benchmarks.train_gans sngan``" in text
    assert left_out(("sngan",), {}) == ""


def test_ablations_are_complete_only_with_every_option():
    options = [f"{key}/{name}" for key in ablations.CASES for name in ablations.variations(PAIRS[key])]
    rows = {f"{option}{draw}": {} for option in options for draw in ("", *(f"/100/{n}" for n in range(5)))}
    assert ablations.is_complete(rows)
    assert not ablations.is_complete({key: row for key, row in rows.items() if "center=False" not in key})


def test_kernel_error_is_the_distance_of_the_kernels():
    generator = torch.Generator().manual_seed(0)
    R, E = (torch.randn(20, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    found = Reference(R.square().sum(0), R).kernel_error(E)
    assert found == pytest.approx(float((E @ E.T - R @ R.T).norm() / (R @ R.T).norm()), rel=1e-10)


def test_competitors_factorise_the_matrix_that_ours_does(folder):
    # 150 rows and 4 components: the paper's 10 iterations and a float32 Gram matrix are exact to rounding.
    for competitor in ("paper", "gram", "curvlinops"):
        row = comparison.compare("tiny", 150, 4, competitor, "cpu", 1)
        if "skipped" not in row:
            assert row["theirs"]["lost_energy"] < 1e-6, competitor
            assert row["theirs"]["kernel_error"] < 1e-4, competitor


def test_plain_loop_multiplies_by_the_fisher_vectors():
    case = CASES["tiny"](20)
    nfk = ours.fit(case, 2, torch.device("cpu"))
    statistics = (torch.as_tensor(np.array(a)) for a in (nfk.mean_score_, nfk.scale_))
    problem = Problem(case, 2, torch.device("cpu"), *statistics, nfk.engine_)
    V = torch.from_numpy(nfk.fisher_vectors(case.X))
    loop = comparison.HandwrittenPaper(problem)
    W, Y = torch.eye(V.shape[1])[:, ::97].contiguous(), torch.eye(20)[:, :5].contiguous()
    for loop.batch_size, loop.chunk in ((8, 1), (20, 2)):
        for found, expected in ((loop.columns_of_matmat(W), V @ W), (loop.columns_of_rmatmat(Y), V.T @ Y)):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_medians_and_quartiles_of_one_and_of_many_values():
    assert measuring.summary([2.0])["q3"] == 2.0
    assert {k: measuring.summary([1.0, 2.0, 3.0])[k] for k in ("q1", "median", "q3")} == {
        "q1": 1.5,
        "median": 2.0,
        "q3": 2.5,
    }


@requires_zoo
def test_pixelcnn_of_the_benchmarks_is_the_zoos():
    case = CASES["pixelcnn"](2)
    x = torch.from_numpy(case.X)
    expected = zoo("models").mnist_pixelcnn()(x)
    torch.testing.assert_close(LogDensity(case.model, case.density)(x), expected, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("competitor", ["paper", "curvlinops"])
def test_what_takes_long_is_scaled_from_three_complete_columns_and_says_so(competitor, folder, monkeypatch):
    for module in ("paper", "oracles"):
        monkeypatch.setattr(f"benchmarks.competitors_{module}.WHOLE_SECONDS", 0.0)
    row = comparison.compare("tiny", 60, 3, competitor, "cpu", 3)
    if "skipped" not in row:
        theirs = row["theirs"]
        assert theirs["extrapolated"]
        assert theirs["columns_timed"] >= 3
        assert theirs["rows_timed"] == 60
        assert theirs["lost_energy"] < 1e-6
        assert "scaled" in tables.how_timed(theirs, None)


def test_tuning_asks_those_close_to_the_best_again():
    answers = {"slow": [9, 9], "best, once disturbed": [1.2, 1.2, 0.8, 0.8], "lucky": [1.0, 1.0, 1.0, 1.0]}
    asked = {name: iter(seconds) for name, seconds in answers.items()}
    assert measuring.fastest(lambda name: next(asked[name]), answers) == "best, once disturbed"
