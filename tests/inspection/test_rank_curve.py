from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from sknfk import NFKTransformer
from sknfk.inspection import RankCurveDisplay
from tests import cases
from tests.inspection.checksum import Checksum, checksum

X, Y = cases.rows(60), np.arange(60) % 3
SPLITS = [(np.arange(40), np.arange(40, 60)), (np.arange(20, 60), np.arange(20))]


def fitted(**options) -> NFKTransformer:
    return NFKTransformer(cases.mlp(), n_components=6, random_state=0, **options).fit(X)


@pytest.mark.parametrize("options", [{}, {"normalize": "l2"}, {"whiten": True}, {"whiten": True, "normalize": "l2"}])
def test_a_rank_is_what_truncate_gives(options):
    nfk = fitted(**options)
    display = RankCurveDisplay.from_estimator(nfk, Checksum(), X, Y, ranks=[2, 5], cv=SPLITS)
    for rank, scores in zip([2, 5], display.scores, strict=True):
        Z = nfk.truncate(rank).transform(X)
        expected = [checksum(Z[train]) + 7 * checksum(Z[test]) for train, test in SPLITS]
        np.testing.assert_allclose(scores, expected, rtol=cases.FLOAT64_RTOL)


def test_all_ranks_cost_one_transform_and_no_fit(monkeypatch):
    nfk, calls, transform = fitted(), [], NFKTransformer.transform
    monkeypatch.setattr(NFKTransformer, "transform", lambda self, X: calls.append(1) or transform(self, X))
    monkeypatch.setattr(NFKTransformer, "fit", None)
    RankCurveDisplay.from_estimator(nfk, LogisticRegression(), X, Y, cv=SPLITS)
    assert len(calls) == 1


def test_the_line_is_the_mean_over_the_splits_of_cross_val_score():
    nfk, probe = fitted(), LogisticRegression()
    display = RankCurveDisplay.from_estimator(nfk, probe, X, Y, cv=4, scoring="balanced_accuracy")
    assert display.ranks == [1, 2, 4, 6]
    Z = nfk.transform(X)
    expected = [cross_val_score(probe, Z[:, :k], Y, cv=4, scoring="balanced_accuracy").mean() for k in display.ranks]
    np.testing.assert_allclose(display.line_.get_ydata(), expected)
    np.testing.assert_array_equal(display.line_.get_xdata(), display.ranks)
    assert display.ax_.get_ylabel() == "Balanced accuracy"


def test_the_band_is_one_standard_deviation():
    display = RankCurveDisplay(ranks=[1, 2], scores=[[0.2, 0.4], [0.5, 0.9]]).plot()
    corners = display.band_.get_paths()[0].vertices[:, 1]
    assert (corners.min(), corners.max()) == (pytest.approx(0.2), pytest.approx(0.9))


def test_ticks_are_the_ranks_of_all_curves():
    ax = RankCurveDisplay(ranks=[1, 2], scores=[[0.2], [0.5]]).plot().ax_
    RankCurveDisplay(ranks=[2, 8], scores=[[0.2], [0.5]]).plot(ax)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "8"]


def test_an_embedding_that_comes_out_as_a_table_serves():
    plain = RankCurveDisplay.from_estimator(fitted(), LogisticRegression(), X, Y, cv=3)
    nfk = fitted().set_output(transform="pandas")
    np.testing.assert_array_equal(
        RankCurveDisplay.from_estimator(nfk, LogisticRegression(), X, Y, cv=3).scores, plain.scores
    )


def test_pca_serves_too():
    display = RankCurveDisplay.from_estimator(PCA(4).fit(X), LogisticRegression(), X, Y)
    assert np.shape(display.scores) == (3, 5)


@pytest.mark.parametrize("ranks", [[0, 2], [2, 7]])
def test_ranks_beyond_the_fit_are_refused(ranks):
    with pytest.raises(ValueError, match=r"`ranks` must be between 1 and the fitted n_components_ = 6. Got \[[07]\]"):
        RankCurveDisplay.from_estimator(fitted(), LogisticRegression(), X, Y, ranks=ranks)
