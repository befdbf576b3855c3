from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from sknfk.inspection import LabelCurveDisplay, draw_labels
from tests import cases
from tests.inspection.checksum import Checksum, checksum

Y_TRAIN, Y_TEST = np.repeat(["a", "b", "c"], [20, 30, 40]), np.repeat(["a", "b", "c"], 5)
Z_TRAIN, Z_TEST = cases.rows(90, 4), cases.rows(15, 4, seed=1)


def curves(features=None, probe=None, **options) -> LabelCurveDisplay:
    features = {"z": (Z_TRAIN, Z_TEST)} if features is None else features
    options = {"random_state": 0, **options}
    return LabelCurveDisplay.from_features(features, probe or Checksum(), Y_TRAIN, Y_TEST, **options)


def test_draws_have_equally_many_labels_of_each_class():
    for rows in draw_labels(Y_TRAIN, 7, n_draws=3, random_state=0):
        assert np.unique(Y_TRAIN[rows], return_counts=True)[1].tolist() == [7, 7, 7]
        assert len(set(rows)) == 21


def test_draws_of_one_seed_nest_and_differ_from_each_other():
    few, many = (draw_labels(Y_TRAIN, n, random_state=3) for n in (2, 9))
    assert all(set(a) < set(b) for a, b in zip(few, many, strict=True))
    assert len({tuple(rows) for rows in few}) == 5


@pytest.mark.parametrize("random_state", [0, np.int64(0)])
def test_scores_are_those_of_the_public_draws(random_state):
    display = curves(n_labels=(1, 4, None), n_draws=3, random_state=random_state)
    for n_labels, scores in zip((1, 4, None), display.scores["z"], strict=True):
        draws = draw_labels(Y_TRAIN, n_labels, n_draws=3, random_state=0)
        expected = [checksum(Z_TRAIN[rows]) + 7 * checksum(Z_TEST) for rows in draws]
        np.testing.assert_allclose(scores, expected)


@pytest.mark.parametrize("random_state", [0, None, np.random.RandomState(0)])
def test_feature_sets_and_counts_share_the_draws(random_state):
    twice = {"one": (Z_TRAIN, Z_TEST), "other": (Z_TRAIN, Z_TEST)}
    scores = curves(twice, n_labels=(2, 2), random_state=random_state).scores
    np.testing.assert_array_equal(scores["one"], scores["other"])
    np.testing.assert_array_equal(scores["one"][0], scores["one"][1])


def test_all_rows_are_fitted_once(monkeypatch):
    monkeypatch.setattr(Checksum, "n_fits", 0)
    scores = curves(n_labels=(None,), n_draws=5).scores["z"]
    assert Checksum.n_fits == 1
    assert scores.shape == (1, 5)


def test_the_probe_may_depend_on_the_number_of_labels():
    asked = []

    def choose(n_labels):
        asked.append(n_labels)
        return KNeighborsClassifier(1) if n_labels == 1 else LogisticRegression()

    chosen = curves(probe=choose, n_labels=(1, 3)).scores["z"]
    np.testing.assert_array_equal(chosen[0], curves(probe=KNeighborsClassifier(1), n_labels=(1,)).scores["z"][0])
    np.testing.assert_array_equal(chosen[1], curves(probe=LogisticRegression(), n_labels=(3,)).scores["z"][0])
    assert asked == [1, 3]


def test_lines_are_the_means_at_the_labels_per_class():
    display = curves({"z": (Z_TRAIN, Z_TEST), "2z": (2 * Z_TRAIN, Z_TEST)}, LogisticRegression())
    assert list(display.lines_) == list(display.bands_) == ["z", "2z"]
    for name, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), [1, 3, 10, 30])
        np.testing.assert_allclose(line.get_ydata(), display.scores[name].mean(axis=1))
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["1", "3", "10", "30"]
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["z", "2z"]
    assert display.ax_.get_ylabel() == "Accuracy"


def test_the_given_probe_stays_unfitted():
    probe = LogisticRegression()
    curves(probe=probe, n_labels=(2,))
    assert not hasattr(probe, "coef_")


def test_rows_that_do_not_match_the_labels_are_refused():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        curves({"short": (Z_TRAIN[:-1], Z_TEST)})
