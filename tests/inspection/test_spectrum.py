from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from sknfk import NFKTransformer
from sknfk.inspection import SpectrumDisplay
from tests import cases


@pytest.fixture(scope="module")
def nfk():
    return NFKTransformer(cases.mlp(), n_components=8, random_state=0).fit(cases.rows(60))


def test_explained_is_the_cumulated_share_of_the_trace(nfk):
    display = SpectrumDisplay.from_estimator(nfk)
    np.testing.assert_array_equal(display.line_.get_xdata(), np.arange(1, 9))
    np.testing.assert_allclose(display.line_.get_ydata(), np.cumsum(nfk.explained_variance_ratio_))
    low, high = display.ax_.get_ylim()
    assert low == 0 and 1 <= high < 1.1


def test_eigenvalues_are_drawn_on_two_logarithmic_axes(nfk):
    display = SpectrumDisplay.from_estimator(nfk, kind="eigenvalues")
    np.testing.assert_allclose(display.line_.get_ydata(), nfk.explained_variance_)
    assert (display.ax_.get_xscale(), display.ax_.get_yscale()) == ("log", "log")


def test_the_name_is_the_class_unless_given(nfk):
    assert SpectrumDisplay.from_estimator(nfk).line_.get_label() == "NFKTransformer"
    assert SpectrumDisplay.from_estimator(nfk, name="net").line_.get_label() == "net"


def test_pca_serves_too(nfk):
    ax = SpectrumDisplay.from_estimator(nfk).ax_
    pca = PCA(3).fit(cases.rows(60))
    display = SpectrumDisplay.from_estimator(pca, ax=ax)
    np.testing.assert_allclose(display.line_.get_ydata(), np.cumsum(pca.explained_variance_ratio_))
    assert len(ax.lines) == 2


def test_an_unfitted_transformer_is_refused():
    with pytest.raises(NotFittedError):
        SpectrumDisplay.from_estimator(NFKTransformer(cases.mlp()))


def test_others_are_drawn_beside_it_for_comparison(nfk):
    pca = PCA(3).fit(cases.rows(60))
    display = SpectrumDisplay.from_estimator(nfk, reference={"PCA": pca})
    assert [line.get_label() for line in display.ax_.lines] == ["NFKTransformer", "PCA"]
    np.testing.assert_allclose(display.ax_.lines[1].get_ydata(), np.cumsum(pca.explained_variance_ratio_))
    assert display.line_ is display.ax_.lines[0]
    assert SpectrumDisplay.from_estimator(nfk, reference=pca).ax_.lines[1].get_label() == "reference"
    with pytest.raises(NotFittedError):
        SpectrumDisplay.from_estimator(nfk, reference=PCA(3))
