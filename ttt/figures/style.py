"""What all pictures share: colours that colour-blind readers tell apart, sizes, and their files."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Okabe and Ito's palette without its black and yellow, which vanish on dark and on light pages.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
# Without colour, in print, lines differ by dashes and markers.
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P")
# The colour of text, axes and ticks. No line has it, so that a page can replace it by its own.
INK = "#171819"
PNG_DPI = 200
SUFFIXES = (".svg", ".pdf", ".png", ".pgf")

RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Letters stay letters instead of outlines: the page is small, and its text can be searched.
    "svg.fonttype": "none",
    # Outlines that a journal accepts: TrueType and not Type 3.
    "pdf.fonttype": 42,
}


def color(index: int) -> str:
    return COLORS[index % len(COLORS)]


def dash(index: int) -> str:
    """Another line style once all colours are used up."""
    return DASHES[index // len(COLORS) % len(DASHES)]


def marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]


def axes(*, width: float = 7.0, height: float = 4.0) -> Axes:
    """Empty axes in a figure of their own, without pyplot: no global state, no display.

    Sizes in inches.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        return figure.add_subplot()


def legend(on: Axes, *, points: float = 9) -> None:
    """Above the axes, where it hides nothing, in as many columns as its names leave room for."""
    figure = on.figure
    assert isinstance(figure, Figure)
    names = on.get_legend_handles_labels()[1]
    if names:
        letters = 14 * figure.get_figwidth() * 9 / points
        columns = int(letters // (max(map(len, names)) + 8))
        figure.legend(
            loc="outside upper center", ncols=min(max(columns, 1), len(names)), fontsize=points, frameon=False
        )


def inline(on: Axes, *, name: str) -> str:
    """SVG to stand inside a page, in its text's colour; `name` keeps its ids apart from others'."""
    figure, file = on.figure, io.StringIO()
    assert isinstance(figure, Figure)
    for patch in (figure.patch, on.patch):
        patch.set_visible(False)
    with matplotlib.rc_context({**RC, "svg.hashsalt": name, "svg.id": name}):
        # `savefig` would draw it twice.
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    text = file.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Groups are numbered anew in every picture.
    return re.sub(r'id="([a-z_.]+_\d+)"', rf'id="{name}-\1"', text)


def save_figure(on: Axes, file: Path) -> None:
    """Write `file` by its suffix. Raises ValueError if that is none of SUFFIXES or it cannot be."""
    if file.suffix not in SUFFIXES:
        raise ValueError(f"{file}: must end in one of {', '.join(SUFFIXES)}")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure, dateless = on.figure, {"Date": None} if file.suffix == ".svg" else None
    assert isinstance(figure, Figure)
    try:
        with matplotlib.rc_context({**RC, "svg.hashsalt": file.stem}):
            figure.savefig(file, metadata=dateless, dpi=PNG_DPI)
    except RuntimeError as error:
        # Only .pgf asks another program, which is not part of Python.
        if file.suffix != ".pgf":
            raise
        raise ValueError(f"{file}: needs xelatex, which is not here, to measure its letters; .pdf does not") from error
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror or error}") from error
