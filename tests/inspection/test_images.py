from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba

from sknfk import NFKTransformer
from sknfk.inspection import ComponentExamplesDisplay, NeighborsDisplay
from sknfk.inspection._images import OTHER, SAME, as_images
from tests import cases


@pytest.fixture(scope="module")
def nfk():
    return NFKTransformer(cases.convnet(), n_components=3, random_state=0).fit(cases.rows(40, 1, 8, 8))


def shown(ax):
    (image,) = ax.get_images()
    return np.asarray(image.get_array())


@pytest.mark.parametrize("sign", [1, -1])
def test_rows_are_the_examples_with_the_largest_projections_in_order(nfk, sign):
    X = cases.rows(40, 1, 8, 8)
    display = ComponentExamplesDisplay.from_estimator(nfk, X, n_components=2, n_examples=5, sign=sign)
    projections = sign * nfk.transform(X)
    assert display.rows_.shape == display.axes_.shape == (2, 5)
    for k in range(2):
        found = projections[display.rows_[k], k]
        assert (np.diff(found) <= 0).all()
        assert found[-1] >= np.delete(projections[:, k], display.rows_[k]).max()
        for ax, row in zip(display.axes_[k], display.rows_[k], strict=True):
            np.testing.assert_array_equal(shown(ax), X[row, 0])


def test_labels_name_the_component_and_its_share(nfk):
    display = ComponentExamplesDisplay.from_estimator(nfk, cases.rows(40, 1, 8, 8))
    labels = [axes[0].get_ylabel() for axes in display.axes_]
    assert labels == [f"{k + 1}\n{100 * share:.1f} %" for k, share in enumerate(nfk.explained_variance_ratio_)]


def test_no_more_is_drawn_than_there_is(nfk):
    X = cases.rows(4, 1, 8, 8)
    assert ComponentExamplesDisplay.from_estimator(nfk, X, n_components=9, n_examples=9).axes_.shape == (3, 4)


def test_neighbours_are_the_nearest_by_angle_and_framed_by_class():
    rng = np.random.default_rng(0)
    others, images = rng.normal(size=(20, 4)), rng.normal(size=(20, 6, 6))
    queries = others[[3, 7]] * 5  # another length, the same direction
    labels = np.arange(20) % 2
    display = NeighborsDisplay.from_embeddings(
        queries, others, images[[3, 7]], images, query_labels=labels[[3, 7]], labels=labels, n_neighbors=4
    )
    assert display.axes_.shape == (2, 5)
    np.testing.assert_array_equal(display.neighbors[:, 0], [3, 7])
    unit = others / np.linalg.norm(others, axis=1, keepdims=True)
    np.testing.assert_array_equal(display.neighbors, np.argsort(-unit[[3, 7]] @ unit.T, axis=1)[:, :4])
    for query, axes, own in zip((3, 7), display.axes_, display.neighbors, strict=True):
        np.testing.assert_array_equal(shown(axes[0]), images[query])
        for ax, row in zip(axes[1:], own, strict=True):
            np.testing.assert_array_equal(shown(ax), images[row])
            spine = ax.spines["left"]
            expected = (SAME, "-") if labels[row] == labels[query] else (OTHER, "--")
            assert spine.get_visible()
            assert (spine.get_edgecolor(), spine.get_linestyle()) == (to_rgba(expected[0]), expected[1])


def test_without_labels_there_are_no_frames():
    images = np.zeros((3, 4, 4))
    display = NeighborsDisplay(query_images=images[:1], images=images, neighbors=[[1, 2]]).plot()
    assert not any(spine.get_visible() for ax in display.axes_.flat for spine in ax.spines.values())


SHAPES = {
    "grey": ((5, 8, 8), (5, 8, 8)),
    "one channel first": ((5, 1, 8, 8), (5, 8, 8)),
    "one channel last": ((5, 8, 8, 1), (5, 8, 8)),
    "colour first": ((5, 3, 8, 8), (5, 8, 8, 3)),
    "colour last": ((5, 8, 8, 3), (5, 8, 8, 3)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_images_of_every_layout_are_understood(name):
    given, expected = SHAPES[name]
    assert as_images(torch.zeros(given)).shape == expected


@pytest.mark.parametrize("shape", [(5, 64), (5,), (5, 2, 8, 8), (5, 8, 8, 2)])
def test_what_are_no_images_is_refused(shape):
    with pytest.raises(ValueError, match="`images` must be of shape"):
        as_images(np.zeros(shape))


def test_the_figure_given_is_drawn_on_and_shows_the_images():
    figure = plt.figure(figsize=(3, 3))
    images = np.stack([np.zeros((4, 4)), np.ones((4, 4))])
    display = ComponentExamplesDisplay(images=images, projections=[[0.0], [1.0]]).plot(figure, vmin=0, vmax=1)
    assert display.figure_ is figure
    figure.canvas.draw()
    grey = np.asarray(figure.canvas.buffer_rgba())[..., 0]
    assert (grey == 0).mean() > 0.1


@pytest.mark.parametrize(
    "display",
    [
        ComponentExamplesDisplay(images=np.zeros((2, 3, 3)), projections=np.zeros((2, 1))),
        NeighborsDisplay(query_images=np.zeros((1, 3, 3)), images=np.zeros((2, 3, 3)), neighbors=[[0]]),
    ],
)
def test_missing_matplotlib_is_explained(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=f"{type(display).__name__}.plot needs matplotlib"):
        display.plot()
