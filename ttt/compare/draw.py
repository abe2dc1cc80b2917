"""Pictures of a comparison: a table of intervals as lines with bands, and the frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ttt.compare.frontier import Frontier, Line
from ttt.compare.names import READABLE, Names
from ttt.compare.sheet import Sheet
from ttt.config.messages import show
from ttt.figures import style
from ttt.figures.bands import Band, bands
from ttt.figures.limits import Which, limit
from ttt.metrics.seeds import Interval
from ttt.results import catalogue
from ttt.results.catalogue import better


def draw_lines(sheet: Sheet, *, labels: Sequence[str], names: Sequence[str] = (), xlabel: str, ylabel: str) -> Axes:
    """Draw each column of a sheet along its rows, with its interval as a band.

    `names` stand below the rows; without them the rows are numbered.
    """
    lines = []
    for label, cells in zip(labels, zip(*(cells for _, cells in sheet.rows), strict=True), strict=True):
        intervals = [cell.interval for cell in cells]
        lines.append(Band(label, range(len(cells)), [x.mean for x in intervals], [x.half for x in intervals]))
    axes = bands(lines, xlabel=xlabel, ylabel=ylabel, names=names)
    if not names:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return axes


def draw_frontier(frontier: Frontier, names: Names = READABLE) -> Axes:
    """Draw learning against forgetting, one line for each method over its rates."""
    axes = style.axes(height=4.6)
    for i, line in enumerate(frontier.lines):
        _draw_method(axes, line, frontier, index=i, name=names.method(line.label))
    axes.set(xlabel=axis_label(frontier.learning, names), ylabel=axis_label(frontier.forgetting, names))
    # Rates stand to the right of their points.
    axes.margins(x=0.12)
    _limit(axes, "x", frontier, frontier.learning)
    _limit(axes, "y", frontier, frontier.forgetting)
    # Better is always at the top right: where lower is better, the axis runs the other way.
    for metric, invert in ((frontier.learning, axes.invert_xaxis), (frontier.forgetting, axes.invert_yaxis)):
        if better(metric) < 0:
            invert()
    axes.text(0.98, 0.97, "better ↗", transform=axes.transAxes, ha="right", va="top", fontsize=9)
    style.legend(axes)
    return axes


def _limit(axes: Axes, which: Which, frontier: Frontier, metric: str) -> None:
    intervals = [[group.interval(metric) for group in line.groups] for line in frontier.lines]
    ends = [[end for x in line for end in (x.low, x.high)] for line in intervals]
    limit(axes, which, [[x.mean for x in line] for line in intervals], ends)


def _draw_method(axes: Axes, line: Line, frontier: Frontier, *, index: int, name: str) -> None:
    """Draw one method: its points with the intervals of both metrics, each with its rate."""
    x, y = ([group.interval(metric) for group in line.groups] for metric in frontier.metrics)
    axes.errorbar(
        [v.mean for v in x],
        [v.mean for v in y],
        xerr=_arms(x),
        yerr=_arms(y),
        label=name,
        color=style.color(index),
        linestyle=style.dash(index),
        marker=style.marker(index),
        markersize=5,
        # Thin: the points and their line are the message, the intervals its margin.
        capsize=2,
        elinewidth=0.8,
    )
    for group, a, b in zip(line.groups, x, y, strict=True):
        rate = show(group.label[frontier.key])
        axes.annotate(rate, (a.mean, b.mean), xytext=(4, 4), textcoords="offset points", fontsize=7)


def _arms(intervals: Sequence[Interval]) -> list[list[float]]:
    """How far each interval reaches below and above its mean; NaN where it has no bound."""
    arms = [[x.mean - x.low for x in intervals], [x.high - x.mean for x in intervals]]
    # matplotlib cannot draw to infinity, and leaves out what is NaN.
    return [[arm if math.isfinite(arm) else math.nan for arm in side] for side in arms]


def axis_label(metric: str, names: Names) -> str:
    """What an axis shows, with its unit."""
    return f"{names.head(metric)}, {catalogue.unit_of(metric)}"
