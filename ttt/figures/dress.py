"""Give a picture that is drawn its look on paper."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import ScalarFormatter

from ttt.figures import style
from ttt.figures.look import Look

# Numbers at ticks and rates at points, as a share of the other letters.
SMALL = 0.85
# Points in an inch; the width of a letter by its size; the length of an axis by that of a figure.
POINTS, LETTER, AXIS = 72, 0.55, 0.62
# Ends of an axis whose ratio is less than this have numbers that need no powers of ten.
DECADES = 100


def dress(axes: Axes, look: Look) -> None:
    """Give a picture that is drawn this look.

    Raises ValueError for a logarithmic axis of numbers that are not above zero.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    for which in look.log:
        _set_log(axes, which)
    for which, ends in look.limits.items():
        (axes.set_xlim if which == "x" else axes.set_ylim)(*_turned(axes, which, ends))
    if look.title:
        axes.set_title(look.title)
    if look.size:
        figure.set_size_inches(look.size)
    if look.font:
        _set_font(axes, look.font)
    _wrap_labels(axes)
    if look.size or look.font:
        for legend in list(figure.legends):
            # A legend is laid out as it is made: for another size it has to be made anew.
            legend.remove()
        style.legend(axes, points=look.font or 9)


def _set_log(axes: Axes, which: str) -> None:
    lowest = min((x for x in _drawn(axes, which) if np.isfinite(x)), default=1.0)
    if lowest <= 0:
        raise ValueError(f"--log {which}: some numbers on this axis are not above zero (the lowest is {lowest:.3g})")
    is_turned = axes.xaxis_inverted() if which == "x" else axes.yaxis_inverted()
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    # A scale of decades needs no ends that keep outliers away.
    axes.relim()
    axes.autoscale(enable=True, axis="x" if which == "x" else "y")
    low, high = sorted(axes.get_xlim() if which == "x" else axes.get_ylim())
    if high < DECADES * low:
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(ScalarFormatter())
    if is_turned:
        (axes.invert_xaxis if which == "x" else axes.invert_yaxis)()


def _wrap_labels(axes: Axes) -> None:
    """Break what stands along an axis where it would be longer than that."""
    width, height = axes.figure.get_size_inches() * POINTS  # type: ignore[union-attr]
    for axis, length in ((axes.xaxis, width), (axes.yaxis, height)):
        letters = AXIS * length / (LETTER * float(axis.label.get_fontsize()))
        axis.label.set_text(textwrap.fill(axis.label.get_text(), max(int(letters), 8)))


def _drawn(axes: Axes, which: str) -> Iterator[float]:
    for line in axes.get_lines():
        # A line without a name marks a place: it is no measurement.
        if not str(line.get_label()).startswith("_child"):
            yield from np.asarray(line.get_xdata() if which == "x" else line.get_ydata(), dtype=np.float64)


def _turned(axes: Axes, which: str, ends: tuple[float, float]) -> tuple[float, float]:
    """The ends of an axis, higher first where the axis runs the other way."""
    is_turned = axes.xaxis_inverted() if which == "x" else axes.yaxis_inverted()
    return (ends[1], ends[0]) if is_turned else ends


def _set_font(axes: Axes, points: float) -> None:
    for text in axes.findobj(Text):
        text.set_fontsize(points)
    for text in axes.texts:
        text.set_fontsize(SMALL * points)
    axes.tick_params(labelsize=SMALL * points)
