"""What the pages of evidence rest on: the probe, the draws of labels, and rows that are complete."""

from __future__ import annotations

import json
from dataclasses import replace

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from benchmarks import (
    bench_ablations,
    bench_choices,
    bench_families,
    bench_ood,
    bench_semi_supervised,
    bench_table1,
    probes,
    tables,
    tables_evidence,
    tables_families,
    tables_readme,
)
from benchmarks.bench_training import STUDENTS
from benchmarks.features import KERNEL, Features, products, random_signs
from benchmarks.pairs import FAMILIES, PAIRS, SLOW, TRAINED, Pair
from sknfk import NFKTransformer

from .cases import convnet, rows
from .zoo_data import requires_zoo

RESULTS = tables.RESULTS
N_CLASSES = 3


@pytest.fixture
def features():
    """Three clouds, base and test, with the linear kernel of their rows."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.normal(size=(N_CLASSES, 40))
    y_base, y_test = np.arange(60) % N_CLASSES, np.arange(45) % N_CLASSES
    base, test = centres[y_base] + rng.normal(size=(60, 40)), centres[y_test] + rng.normal(size=(45, 40))
    return Features(
        base={"pixels": base},
        test={"pixels": test},
        kernel_base=base @ base.T,
        kernel_test=test @ base.T,
        test_squared_norms=np.square(test).sum(1),
        y_base=y_base,
        y_test=y_test,
        about={},
    )


@pytest.mark.parametrize("n_rows", [12, 60])
def test_probe_sees_all_that_it_would_in_full_width(features, n_rows):
    train, test, y = features.base["pixels"][:n_rows], features.test["pixels"], features.y_base[:n_rows]
    expected = LogisticRegression(tol=1e-10, max_iter=10_000).fit(train, y).decision_function(test)
    narrow_train, narrow_test = probes.narrow(train, test)
    assert narrow_train.shape[1] == min(n_rows, 40)
    found = LogisticRegression(tol=1e-10, max_iter=10_000).fit(narrow_train, y).decision_function(narrow_test)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("n_rows", [20, 60])  # fewer and more than columns
@pytest.mark.parametrize("principal", [False, True])
@pytest.mark.parametrize("unit_rows", [False, True])
def test_kernel_coordinates_are_those_of_the_rows_it_is_made_of(features, unit_rows, principal, n_rows):
    labelled = np.arange(n_rows)
    found = probes.kernel_coordinates(features, labelled, principal)
    train, test = found.preprocessed("unit rows" if unit_rows else "none")
    assert train.shape[1] == min(n_rows, 40)
    own = [features.base["pixels"][labelled], features.test["pixels"]]
    if unit_rows:
        own = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in own]
    np.testing.assert_allclose(train @ train.T, own[0] @ own[0].T, atol=1e-9)
    np.testing.assert_allclose(test @ train.T, own[1] @ own[0].T, atol=1e-9)


@pytest.mark.parametrize("how", probes.PREPROCESSINGS)
def test_preprocessed_coordinates_are_those_of_the_preprocessed_rows(features, how):
    labelled = np.arange(12)  # fewer than the columns
    [(_, train, test)] = probes.prepared(features, "pixels", labelled, probes.Choice(how, 1.0))
    assert train.shape[1] == 12
    own = features.base["pixels"][labelled], features.test["pixels"]
    full_train, full_test = probes.preprocess(*own, how)
    np.testing.assert_allclose(train @ train.T, full_train @ full_train.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(test @ train.T, full_test @ full_train.T, rtol=1e-4, atol=1e-4)
    if how == "unit rows":
        np.testing.assert_allclose(np.linalg.norm(full_test, axis=1), 1)
    if how == "StandardScaler":
        np.testing.assert_allclose(full_train.std(0), 1)
    if how == "one global scale":
        assert np.square(full_train - full_train.mean(0)).mean() == pytest.approx(1)


def test_probe_of_a_kernel_is_the_probe_of_its_features(features):
    labelled = bench_families.labelled_rows(features.y_base, "10", 0)
    found = [probes.probe(features, name, labelled, 0) for name in ("pixels", KERNEL)]
    assert found[0].accuracy == pytest.approx(found[1].accuracy, abs=1 / 45)
    assert min(own.accuracy for own in found) > 0.8


def test_draws_have_as_many_labels_of_each_class_and_differ(features):
    draws = [bench_families.labelled_rows(features.y_base, "10", number) for number in range(3)]
    assert all((np.bincount(features.y_base[rows]) == 10).all() for rows in draws)
    assert len({tuple(rows) for rows in draws}) == 3


def test_five_pools_leave_out_each_row_once(features):
    pools = [bench_families.labelled_rows(features.y_base, "all", number) for number in range(bench_families.N_POOLS)]
    left_out = np.concatenate([np.setdiff1d(np.arange(60), pool) for pool in pools])
    assert sorted(left_out) == list(range(60))


def test_a_model_on_its_own_task_is_tested_on_rows_without_a_label(features):
    features.about["on_task"] = True
    labelled = bench_families.labelled_rows(features.y_base, "10", 0)
    tested = features.tested(labelled)
    assert not set(tested) & set(labelled)
    assert not bench_families.possible(features, "100/0")
    assert bench_families.possible(features, "10/0")


@pytest.mark.parametrize("on_task", [False, True])
def test_the_first_pool_chooses_for_all_pools_but_where_it_has_seen_their_test_rows(features, on_task, monkeypatch):
    features.about["on_task"] = on_task
    asked = []

    def chosen_by(ways, y, seed):
        asked.append(seed)
        return probes.Choice("none", 1.0 + seed)

    monkeypatch.setattr(probes, "choose", chosen_by)
    found = dict(bench_families.measured_draws(features, ["10/3", "all/0", "all/2"]))
    ways = [set(found[name]["chosen"].values()) for name in ("10/3", "all/0", "all/2")]
    assert ways == [{"none, C=4"}, {"none, C=1"}, {"none, C=3" if on_task else "none, C=1"}]
    assert set(asked) == ({0, 2, 3} if on_task else {0, 3})


def test_inner_validation_prefers_the_rows_that_tell_classes_apart():
    rng = np.random.default_rng(0)
    y = np.arange(60) % N_CLASSES
    good = np.eye(N_CLASSES)[y] + 0.1 * rng.normal(size=(60, N_CLASSES))
    choice = probes.choose({"none": rng.normal(size=(60, 5)), "unit rows": good}, y, 0)
    assert choice.preprocessing == "unit rows"


def test_cka_is_one_for_a_turned_embedding_and_small_for_another():
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(2, 500, 4))
    turned = A @ np.linalg.qr(rng.normal(size=(4, 4)))[0]
    assert bench_choices.linear_cka(A, turned) == pytest.approx(1)
    assert bench_choices.linear_cka(A, B) < 0.1


measured = pytest.mark.skipif(
    not (RESULTS / "families.json").exists(), reason="not measured yet: python -m benchmarks families takes hours"
)


def test_kernels_are_the_products_of_the_fisher_vectors(monkeypatch):
    monkeypatch.setattr("benchmarks.features.GRAM_BYTES", 7 * 4 * 192)  # blocks of seven rows
    monkeypatch.setattr("benchmarks.features.GATHERED", 4)
    X = rows(40, 1, 8, 8).astype(np.float32)
    nfk = NFKTransformer(convnet().float(), 3, random_state=0, batch_size=16).fit(X)
    R = random_signs(nfk.n_parameters_, 5)
    found = products(nfk.operator(X).torch, nfk.operator(X[:25]).torch, R)
    V = nfk.fisher_vectors(X)
    kernel, projected = V @ V.T, V @ R.numpy()
    pairs = {"base": (found.kernel_base, kernel), "test": (found.kernel_test, kernel[:25])}
    pairs |= {"projected": (found.projected_base, projected), "and test": (found.projected_test, projected[:25])}
    pairs |= {"lengths": (found.test_squared_norms, np.diag(kernel)[:25])}
    for name, (own, expected) in pairs.items():
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max(), err_msg=name)


def test_the_scores_of_strangers_are_those_of_transform_and_residual():
    X = rows(40, 1, 8, 8).astype(np.float32)
    nfk = NFKTransformer(convnet().float(), 3, random_state=0, batch_size=16).fit(X)
    embedded, lengths = bench_ood.embedded_with_lengths(nfk, X)
    np.testing.assert_allclose(embedded, nfk.transform(X), rtol=1e-4, atol=1e-4 * np.abs(embedded).max())
    np.testing.assert_allclose(lengths - np.square(embedded).sum(1), nfk.residual(X), rtol=1e-3)
    np.testing.assert_allclose(lengths, np.square(nfk.fisher_vectors(X)).sum(1), rtol=1e-4)


def families() -> dict[str, dict]:
    return json.loads((RESULTS / "families.json").read_text())["results"]["rows"]


@measured
def test_evidence_covers_every_family_and_pair():
    evidence = families()
    assert {evidence[key]["family"] for key in PAIRS} == set(FAMILIES)


@measured
@pytest.mark.parametrize("key", PAIRS)
def test_evidence_has_the_rows_and_draws_that_it_states(key):
    evidence, pair = families(), PAIRS[key]
    about = evidence[key]
    assert about["weights_sha256"]
    if pair.on_task:
        assert about["n_test"] >= (1_017 if pair.dataset == "cifar10" else 5_000)
    elif pair.model.name not in SLOW:
        assert about["n_base"] >= 5_000
        assert about["n_test"] >= (2_007 if pair.dataset == "usps" else 5_000)
    draws = {budget: 0 for budget in ("10", "100", "all")}
    for name, row in evidence.items():
        if name.startswith(f"{key}/"):
            draws[row["labels"]] += 1
            assert row["accuracy"].keys() == about["dimensions"].keys()
            assert row["n_train"] and row["n_test"]
            assert row["weights_sha256"] == about["weights_sha256"]
    few = pair.on_task and pair.dataset == "cifar10"
    assert draws == {"10": 10, "100": 0 if few else 10, "all": 5}


def test_evidence_counts_as_complete_only_with_every_pair_and_draw():
    names = {key: [key, *(f"{key}/{name}" for name in bench_families.draw_names(pair))] for key, pair in PAIRS.items()}
    rows = {name: {} for of_pair in names.values() for name in of_pair}
    assert bench_families.is_complete(rows)
    for missing in ("vae/usps", "resnet56/cifar10/all/4", "dcgan/mnist/100/9"):
        assert not bench_families.is_complete({name: row for name, row in rows.items() if name != missing})
    assert "resnet20/cifar10/100/0" not in rows


def test_embeddings_gain_what_the_page_on_choosing_says():
    rows = json.loads((RESULTS / "choices.json").read_text())["results"]["rows"]
    pairs = "lenet5/fashion", "resnet20/usps", "lenet5/usps"
    few, many = ([tables_evidence.gain(rows, pair, labels)[0] for pair in pairs] for labels in ("10", "100"))
    assert [round(gain) for gain in few[:2]] == [8, 6] and [round(gain) for gain in many[:2]] == [4, 3]
    assert abs(few[2]) < 0.5 and abs(many[2]) < 0.5


@requires_zoo
def test_tables_of_the_paper_have_their_feature_sets():
    small = Pair(TRAINED["mlp_gan"], "mnist", n_base=300, n_test=40)
    features = bench_table1.table_features(small, "cpu")
    assert features.names == ("activations", "NFK-128", "NFK-256", KERNEL)
    squared = np.square(features.base["NFK-256"]).sum(1)
    assert (squared <= np.diag(features.kernel_base) * (1 + 1e-3)).all()  # a projection is no longer than the vector
    assert bench_semi_supervised.sets_of(small, "cpu").names == ("NFK-128", "activations", "PCA-128 of pixels")
    assert bench_ablations.varied(small, {"fisher": "identity"}, "cpu").names == ("NFK-128",)


def test_self_training_starts_from_what_the_probe_chose(features):
    found = bench_semi_supervised.compared(replace(features, kernel_base=None), 5, 0)
    assert found["n_labels"] == 5 * N_CLASSES
    assert found["accuracy"].keys() == {"pixels", "pixels, self-training"}
    assert min(found["accuracy"].values()) > 0.5


def test_probes_of_pixels_are_kept_for_the_next_model_of_the_same_rows(features, tmp_path, monkeypatch):
    kept = joblib.Memory(tmp_path, verbose=0).cache(probes._probed)
    monkeypatch.setattr(probes, "_of_pixels", kept)
    labelled = bench_families.labelled_rows(features.y_base, "10", 0)
    first = probes.probe(features, "pixels", labelled, 0)
    other_model = replace(features, about={"model": "another"}, kernel_base=2 * features.kernel_base)
    alone = probes._alone(other_model, "pixels")
    assert kept.check_call_in_cache(alone, "pixels", labelled, 0, None)
    assert not kept.check_call_in_cache(alone, "pixels", labelled, 1, None)
    assert first == probes._probed(features, "pixels", labelled, 0, None)


def test_the_summary_counts_intervals_that_leave_out_zero():
    accuracies = {"gan/a": (0.9, 0.8), "gan/b": (0.7, 0.8), "gan/c": (0.8, 0.8)}  # NFK-128, activations
    rows = {}
    for pair, (nfk, activations) in accuracies.items():
        rows[pair] = {"family": "gan", "on_task": False}
        for draw in range(3):
            noise = 0.01 * (draw - 1)
            found = {"NFK-128": nfk + noise, "activations": activations, "pixels": 0.0, "activations + NFK-128": 0.0}
            rows[f"{pair}/10/{draw}"] = {"labels": "10", "accuracy": found}
    said = tables_families.verdict(list(accuracies), "NFK-128", "activations", rows)
    assert said.startswith("**NFK-128 against activations**: 1 wins and 1 losses of 3 at 10 a class, 0 wins")
    assert tables_families.family_table(list(accuracies), rows).split("* - gan\n")[1].split()[1:6] == [
        *("3", "-", "1", "and", "1"),
    ]
    told = tables_readme.evidence({**rows, **{pair: {**rows[pair], "model": pair} for pair in accuracies}})
    assert told.startswith("On 3 pairs of one of 3 models") and f"* {said}" in told
    cells = tables_families.summary(list(accuracies), rows).split("* - gan/")[1:]
    assert ["**+10.0**" in cells[0], "**-10.0**" in cells[1], "**" in cells[2].split("- +0.0")[0]] == [
        True,
        True,
        False,
    ]


@pytest.mark.skipif(
    not (RESULTS / "densities.json").exists(), reason="not measured yet: python -m benchmarks densities"
)
def test_every_density_meets_its_figure_and_plain_autograd():
    evidence = json.loads((RESULTS / "densities.json").read_text())["results"]["rows"]
    assert evidence.keys() == TRAINED.keys()
    for name, row in evidence.items():
        agrees = {dataset: value["agrees"] for dataset, value in row["values"].items()}
        assert False not in agrees.values(), (name, agrees)
        assert row["gradient_error"] < 1e-12, name


@pytest.mark.skipif(not (RESULTS / "training.json").exists(), reason="not measured yet: python -m benchmarks training")
def test_a_model_is_left_untrained_only_where_that_or_its_teacher_takes_more_than_six_hours():
    rows = json.loads((RESULTS / "training.json").read_text())["results"]["rows"]
    for name, row in rows.items():
        needed = rows[STUDENTS.get(name, name)]
        assert row["is_trained"] or (needed["hours"] > 6 and needed["torch_threads"] == 2), name
        assert row["is_trained"] or not needed["is_trained"], f"{name} has its teacher and is not trained"
