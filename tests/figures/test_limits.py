"""Ends of axes: a run that diverged flattens no other, and nothing else changes them."""

from __future__ import annotations

import numpy as np
import pytest

from ttt.figures import style
from ttt.figures.bands import Band, bands
from ttt.figures.limits import FAR, usual


def lines(*, diverged=1.0, half=0.1):
    """Five lines of eight points between 2 and 4; the last may be multiplied."""
    x = list(range(8))
    rows = [[2 + (i + k) % 9 / 4 for k in x] for i in range(5)]
    rows[-1] = [diverged * y for y in rows[-1]]
    return [Band(f"method {i}", x, row, [half] * 8) for i, row in enumerate(rows)]


def test_a_line_that_diverged_is_off_the_axis_and_counted():
    axes = bands(lines(diverged=1e4), xlabel="", ylabel="")
    low, high = axes.get_ylim()
    assert 0 < low < 2
    assert 4 < high < 10
    assert "8 of 40 points lie off this axis" in [text.get_text() for text in axes.texts]


def test_intervals_without_bounds_do_not_stretch_an_axis():
    wide = lines()
    wide[0] = Band("few seeds", wide[0].x, wide[0].mean, [1e6] * 8)
    axes = bands(wide, xlabel="", ylabel="")
    assert axes.get_ylim()[1] < 10
    # All means are there to be seen.
    assert not axes.texts


@pytest.mark.parametrize("diverged", [1.0, 3.0])
def test_ordinary_lines_keep_their_ends(diverged):
    axes = bands(lines(diverged=diverged), xlabel="", ylabel="")
    low, high = axes.get_ylim()
    values = [y for line in lines(diverged=diverged) for y in line.mean]
    assert low < min(values) < max(values) < high
    assert not axes.texts
    assert axes.get_autoscaley_on()


def test_what_is_usual():
    rng = np.random.default_rng(0)
    values = rng.normal(size=50)
    assert usual(values).all()
    spread = np.median(np.abs(values - np.median(values)))
    assert usual(np.append(values, 2 * FAR * spread)).tolist() == [True] * 50 + [False]
    assert usual(np.array([1.0, 1.0, 1.0, 50.0, np.nan])).tolist() == [True, True, True, True, False]
    assert not usual(np.array([np.nan])).any()


def test_empty_axes_have_no_legend():
    axes = style.axes()
    style.legend(axes)
    assert not axes.figure.legends
