"""A table of intervals as lines with bands."""

from __future__ import annotations

from matplotlib.axes import Axes

from ttt.figures.bands import Band, bands
from ttt.sheet import Sheet


def lines(sheet: Sheet, *, xlabel: str, ylabel: str) -> Axes:
    """A line for each column of a sheet along its rows, its interval as a band."""
    columns = zip(*(cells for _, cells in sheet.rows), strict=True)
    x = range(len(sheet.rows))
    made = [
        Band(name, x, [cell.interval.mean for cell in cells], [cell.interval.half for cell in cells])
        for name, cells in zip(sheet.columns, columns, strict=True)
    ]
    return bands(made, xlabel=xlabel, ylabel=ylabel, names=[words[0] for words, _ in sheet.rows])
