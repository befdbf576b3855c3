"""What all displays owe: scikit-learn's contract, and a figure that can be read."""

from __future__ import annotations

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from sknfk.inspection import LabelCurveDisplay, RankCurveDisplay, ScalingDisplay, SpectrumDisplay

VARIANCE = np.array([4.0, 2.0, 1.0, 0.5])
DISPLAYS = {
    "spectrum": lambda: SpectrumDisplay(explained_variance=VARIANCE, explained_variance_ratio=VARIANCE / 10),
    "rank": lambda: RankCurveDisplay(ranks=[1, 2, 4], scores=[[0.1, 0.3], [0.5, 0.7], [0.8, 0.8]]),
    "label": lambda: LabelCurveDisplay(n_labels=[1, 10], scores={"a": [[0.1, 0.3], [0.5, 0.7]]}),
    "scaling": lambda: ScalingDisplay(seconds={"a": {100: 1.0, 1000: 9.0}}),
}
each_display = pytest.mark.parametrize("make", DISPLAYS.values(), ids=DISPLAYS)


def pixels(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].reshape(-1, 3)


def n_pixels_like(figure, colour) -> int:
    distance = np.abs(pixels(figure) - 255 * np.array(to_rgb(colour))).max(axis=1)
    return int((distance < 8).sum())


@each_display
def test_plot_returns_the_display_with_its_axes_and_figure(make):
    display = make()
    assert display.plot() is display
    assert display.figure_ is display.ax_.figure


@each_display
def test_plot_draws_on_the_axes_given(make):
    figure, (left, right) = plt.subplots(1, 2)
    display = make().plot(right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert not left.lines
    assert len(plt.get_fignums()) == 1


@each_display
def test_the_figure_shows_the_line(make):
    display = make().plot()
    (line,) = display.ax_.lines
    assert n_pixels_like(display.figure_, line.get_color()) > 100


@each_display
def test_options_reach_the_line_under_any_of_their_names(make):
    (line,) = make().plot(c="crimson", lw=5).ax_.lines
    assert (line.get_color(), line.get_linewidth()) == ("crimson", 5)


@each_display
def test_two_displays_on_one_axes_differ_in_colour_and_dashes(make):
    ax = make().plot().ax_
    first, second = make().plot(ax).ax_.lines
    assert first.get_color() != second.get_color()
    assert first.get_linestyle() != second.get_linestyle()


@each_display
def test_axes_are_named(make):
    ax = make().plot().ax_
    assert ax.get_xlabel()
    assert ax.get_ylabel()


@each_display
def test_a_name_appears_in_the_legend(make):
    legend = make().plot(name="mine").ax_.get_legend()
    assert "mine" in [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]


@each_display
def test_missing_matplotlib_is_explained(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    display = make()
    expected = f"{type(display).__name__}.plot needs matplotlib. Install it with `pip install sknfk\\[plot\\]`."
    with pytest.raises(ImportError, match=expected):
        display.plot()


def test_the_room_does_not_import_matplotlib():
    code = "import sknfk.inspection, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_display_without_a_name_has_no_legend():
    assert DISPLAYS["rank"]().plot().ax_.get_legend() is None
