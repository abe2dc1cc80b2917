"""The page of texts that a model read in order, learning while it read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from math import nan
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from ttt.config.visible import visible
from ttt.figures.bands import Band, bands
from ttt.report import page
from ttt.report.parts import Picture, Table, number_cell, picture, text_cell
from ttt.storage.files import write_bytes

CAPTION = "By bytes of the text; each point is the mean of a stretch."
# Texts that get a line in a picture, and those in the table.
LINES, TEXTS = 6, 200
COLUMNS = {
    "text": "",
    "bytes": "",
    "bits per byte": "each token scored before it is read",
    "without writes": "the same model, whose fast weights are never written",
    "gain": "bits per byte that writes save",
    "norm": "of the fast weights at the end",
}


def write_reading(file: Path, content: Mapping[str, Any]) -> None:
    """Write the page of what `ttt-stream` keeps in stream.json."""
    sessions: Mapping[str, Mapping[str, Any]] = content["sessions"]
    reader = content["reader"]
    sentence = f"{reader['run']}: {reader['model']} with {reader['adapter']}, {content['seconds']:,.0f} s"
    shown: dict[str, Any] = {"title": visible(f"Read by {reader['run']}"), "sentence": visible(sentence)}
    shown |= {"texts": _table(sessions), "pictures": list(_pictures(sessions))}
    write_bytes(file, page.render("reading.html", shown).encode())


def _table(sessions: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = [
        [text_cell(name), number_cell(each["bytes"]), *map(number_cell, _values(each).values())]
        for name, each in list(sessions.items())[:TEXTS]
    ]
    left = len(sessions) - len(rows)
    note = f"{left} more texts are in stream.json." if left else ""
    return Table("texts", "What was read", COLUMNS, rows, note=note)


def _pictures(sessions: Mapping[str, Mapping[str, Any]]) -> Iterator[Picture]:
    shown = {name: each["points"] for name, each in list(sessions.items())[:LINES] if each["points"]}
    titles = {"bits": "bits per byte", "gain": "bits per byte that writes save", "norm": "norm of the fast weights"}
    for key, title in titles.items() if shown else ():
        draw = partial(_draw, _lines(shown, key), ylabel=title, zero=key == "gain")
        yield picture(draw, name=f"reading-{key}", title=title.capitalize(), caption=CAPTION)


def _lines(shown: Mapping[str, Sequence[Mapping[str, Any]]], key: str) -> list[Band]:
    # With several texts a second line for each would hide the first.
    lines = [_line(name, points, key) for name, points in shown.items()]
    if key == "bits" and len(shown) == 1:
        lines += [_line("without writes", points, "plain") for points in shown.values()]
    return lines


def _line(name: str, points: Sequence[Mapping[str, Any]], key: str) -> Band:
    return Band(visible(name), [point["end"] for point in points], [_values(point)[key] for point in points])


def _draw(lines: Sequence[Band], *, ylabel: str, zero: bool) -> Axes:
    return bands(lines, xlabel="bytes", ylabel=ylabel, zero=zero)


def _values(numbers: Mapping[str, Any]) -> dict[str, float]:
    """What is shown of a text, or of a stretch of it; NaN where it was not measured."""
    bits, plain, norm = (
        nan if numbers[key] is None else numbers[key] for key in ("bits", "bits_without_writes", "norm")
    )
    return {"bits": bits, "plain": plain, "gain": plain - bits, "norm": norm}
