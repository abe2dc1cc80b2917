"""The parts of a page before they are HTML: tables and pictures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from ttt.config.visible import visible
from ttt.figures import style
from ttt.figures.bands import TICKS
from ttt.report.text import UNDEFINED, number

# Inches: two pictures fit side by side on a desktop and one on a phone, with letters of about
# 10 points on both.
WIDTH, HEIGHT = 4.8, 3.0
# More height where tick labels are measured: names of tasks may be long.
MEASURED_HEIGHT = 1.0
# Left, bottom, width and height of the axes, as shares of the figure, where they are not measured.
MARGINS = (0.17, 0.26, 0.815, 0.64)
# Letters of a legend on one line of a picture, those that the line before a name takes, and the
# height of a further line as a share of the figure.
LETTERS, HANDLE, LINE = 72, 8, 0.065


@dataclass(frozen=True)
class PageCell:
    """One cell of a table on a page.

    `value` is the sort key (if empty, the text is), `title` appears on hover, `strong` marks the
    best of a column.
    """

    text: str
    value: str = ""
    title: str = ""
    strong: bool = False
    link: str = ""

    @property
    def numeric(self) -> bool:
        return bool(self.value)


@dataclass(frozen=True)
class Table:
    """A table on a page; the first cell of a row names the row.

    `columns` maps a header to what it means (on hover); `note` says what is left out.
    """

    name: str
    caption: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[PageCell]]
    note: str = ""
    sortable: bool = True


@dataclass(frozen=True)
class Picture:
    """An SVG, which the page embeds and which is written to a file too."""

    name: str
    title: str
    caption: str
    svg: Markup = field(repr=False)


def number_cell(x: float, *, why: str = "", strong: bool = False) -> PageCell:
    """Return a cell with a number, or with a dash that says on hover why there is none."""
    if not math.isfinite(x):
        return PageCell(UNDEFINED, value="nan", title=why or "not measured")
    return PageCell(number(x), value=repr(float(x)), strong=strong)


def text_cell(text: str, *, title: str = "") -> PageCell:
    return PageCell(visible(text), title=visible(title))


def picture(draw: Callable[[], Axes], *, name: str, title: str, caption: str, measured: bool = False) -> Picture:
    """Draw a picture in the size and style of the page.

    `measured` fits the margins to their labels, which takes as long as the rest of the picture.
    """
    with warnings.catch_warnings():
        # The SVG keeps text as text and the reader's browser supplies the font: it does not
        # matter that a glyph is missing here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        axes = draw()
        figure = axes.figure
        assert isinstance(figure, Figure)
        figure.set_size_inches(WIDTH, HEIGHT + (MEASURED_HEIGHT if measured else 0.0))
        if not measured:
            figure.set_layout_engine("none")
            axes.set_position(MARGINS)
        dress_axes(axes)
        for legend in figure.legends:
            dress_legend(legend)
            if not measured:
                make_room(axes, legend)
        legend_texts = (text for legend in figure.legends for text in legend.get_texts())
        for text in (*axes.texts, *legend_texts):
            text.set_color(style.INK)
        svg = style.inline(axes, name=name)
    # A screen reader announces the title; without it, it would read every tick label.
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    return Picture(name=name, title=title, caption=caption, svg=Markup(svg))


def dress_axes(axes: Axes) -> None:
    axes.tick_params(labelsize=8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_fontsize(9)
    mark_lines(axes)


def dress_legend(legend: Legend) -> None:
    """Give the legend the markers of the lines, and hide it if there is only one line."""
    legend.set_visible(len(legend.get_texts()) > 1)
    for i, line in enumerate(legend.get_lines()):
        line.set(marker=style.marker(i), markersize=4)


def make_room(axes: Axes, legend: Legend) -> None:
    """Break a legend that is wider than the picture, and lower the axes by its further lines."""
    names = [text.get_text() for text in legend.get_texts()]
    # A line has as many names as would fit if all were as long as the longest.
    columns = max(1, min(len(names), int(LETTERS // (max(map(len, names), default=0) + HANDLE))))
    legend.set_ncols(columns)
    left, bottom, width, height = MARGINS
    # The legend stands above the axes and grows downwards into them.
    axes.set_position((left, bottom, width, height - LINE * (math.ceil(len(names) / columns) - 1)))


def mark_lines(axes: Axes) -> None:
    """Put a few markers on every line, so that lines differ without colour too."""
    # Matplotlib's own label for a line without a name begins with an underscore.
    named = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    for i, line in enumerate(named if len(named) > 1 else ()):
        step = max(1, len(line.get_xdata()) // TICKS)  # type: ignore[arg-type]
        # Each line starts its markers at another place: on lines that coincide all stay visible.
        line.set(marker=style.marker(i), markersize=4, markevery=(i * step // len(named), step))
