"""A table of intervals as lines with bands."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ttt.compare.table import Sheet
from ttt.figures.bands import Band, bands


def lines(sheet: Sheet, *, labels: Sequence[str], names: Sequence[str] = (), xlabel: str, ylabel: str) -> Axes:
    """A line for each column of a sheet along its rows, its interval as a band. Rows without names are counted."""
    made = []
    for label, cells in zip(labels, zip(*(cells for _, cells in sheet.rows), strict=True), strict=True):
        intervals = [cell.interval for cell in cells]
        made.append(Band(label, range(len(cells)), [x.mean for x in intervals], [x.half for x in intervals]))
    axes = bands(made, xlabel=xlabel, ylabel=ylabel, names=names)
    if not names:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return axes
