"""What a page is made of, before it is HTML: tables and pictures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from ttt.figures import style
from ttt.figures.bands import TICKS
from ttt.report.text import UNDEFINED, clean, number

# Two pictures stand side by side on a desk, one on a phone, with letters of 10 points or nearly so.
WIDTH, HEIGHT = 4.8, 3.0


@dataclass(frozen=True)
class Cell:
    """`text` as shown, `value` to sort by (empty: by the text), `title` on hover, `strong` for the best, `link`."""

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
    """`columns` name -> what it means (on hover). The first cell of a row names the row. `note`: what is left out."""

    name: str
    caption: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    sortable: bool = True


@dataclass(frozen=True)
class Picture:
    """`svg` stands in the page as it is, and in a file of its own."""

    name: str
    title: str
    caption: str
    svg: Markup = field(repr=False)


def value(x: float, *, why: str = "", strong: bool = False) -> Cell:
    """A number, or a dash that says on hover why there is none."""
    if not math.isfinite(x):
        return Cell(UNDEFINED, value="nan", title=why or "not measured")
    return Cell(number(x), value=repr(float(x)), strong=strong)


def word(text: str, *, title: str = "") -> Cell:
    return Cell(clean(text), title=clean(title))


def picture(draw: Callable[[], Axes], *, name: str, title: str, caption: str, measured: bool = False) -> Picture:
    """`measured`: margins as wide as what stands in them, which takes as long as all the rest of a picture."""
    with warnings.catch_warnings():
        # Letters stay letters in SVG: it is the reader's fonts that draw them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        axes = draw()
        figure = axes.figure
        assert isinstance(figure, Figure)
        figure.set_size_inches(WIDTH, HEIGHT + (1.0 if measured else 0.0))
        if not measured:
            figure.set_layout_engine("none")
            axes.set_position((0.17, 0.26, 0.815, 0.64))
        axes.tick_params(labelsize=8)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_fontsize(9)
        mark_lines(axes)
        for legend in figure.legends:
            dress(legend)
        for text in (*axes.texts, *(text for legend in figure.legends for text in legend.get_texts())):
            text.set_color(style.INK)
        svg = style.inline(axes, name=name)
    # Told by its caption, not letter by letter.
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)
    return Picture(name=name, title=title, caption=caption, svg=Markup(svg))


def dress(legend: Legend) -> None:
    """With the marks of the lines; a line alone is named by the title."""
    legend.set_visible(len(legend.get_texts()) > 1)
    for i, line in enumerate(legend.get_lines()):
        line.set(marker=style.marker(i), markersize=4)


def mark_lines(axes: Axes) -> None:
    """Lines of many points get some marks too: they must differ without colour."""
    named = [line for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    for i, line in enumerate(named if len(named) > 1 else ()):
        step = max(1, len(line.get_xdata()) // TICKS)  # type: ignore[arg-type]
        line.set(marker=style.marker(i), markersize=4, markevery=(i * step // len(named), step))
