"""R as a table of coloured cells: with readable numbers for few tasks, as a picture for many."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np

from ttt.config.visible import visible
from ttt.figures.heat import COLORMAP
from ttt.report.record import Record
from ttt.report.text import number, thin
from ttt.results.results import Results
from ttt.results.scores import MEANINGS, quantity_of, sign

# At most this many rows and columns, and this many columns whose numbers can still be read.
SIZE, READABLE = 30, 12
LEVELS = 32
SHOWN = ("loss", "accuracy")
NOT_MEASURED = "·"


@dataclass(frozen=True)
class Square:
    """One cell of the map.

    `value` has more digits than `text`; `level`: that of its colour, None if nothing was measured;
    `learned` marks the task that the row has just learned.
    """

    text: str
    value: str
    level: int | None
    learned: bool


@dataclass(frozen=True)
class Heat:
    """One map. `columns` and `rows` begin with their names, a short and a full one."""

    name: str
    mode: str
    meaning: str
    quantity: str
    unit: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, str, Sequence[Square]]]
    low: str
    high: str
    readable: bool
    note: str

    @property
    def title(self) -> str:
        return f"{quantity_of(self.quantity).label}, mode {self.mode}"


def palette() -> list[tuple[str, str]]:
    """Return the background and text colour of each level."""
    colours = matplotlib.colormaps[COLORMAP](np.linspace(0, 1, LEVELS))[:, :3]
    # WCAG 2.1's relative luminance: above 0.179, black text has more contrast than white text.
    # sRGB values become linear light first, which is then weighed as the eye weighs it.
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    light = linear @ np.array([0.2126, 0.7152, 0.0722])
    codes = ["#" + "".join(f"{round(255 * c):02x}" for c in colour) for colour in colours]
    return [(code, "#000" if bright > 0.179 else "#fff") for code, bright in zip(codes, light, strict=True)]


def heat_maps(record: Record) -> dict[str, list[Heat]]:
    """Return for each quantity a map for every mode; the maps of a quantity share one scale."""
    rows, columns = visible_cells(record)
    maps = {}
    for quantity in SHOWN:
        arrays = {mode: record.results.matrix(mode, quantity) for mode in record.modes}
        finite = np.concatenate([r[np.isfinite(r)] for r in arrays.values()])
        # One scale for all modes: equal colours mean equal values on all maps of a quantity.
        scale = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        maps[quantity] = [
            heat_map(record.results, mode, quantity, rows=rows, columns=columns, scale=scale) for mode in arrays
        ]
    return maps


def visible_cells(record: Record) -> tuple[list[int], list[int]]:
    """Return the rows and columns to show, at most SIZE of each.

    Where there are too many, wide rows are preferred, and the tasks that were learned at them.
    """
    results = record.results
    rows, columns = list(range(len(results.rows))), list(range(len(results.tasks)))
    if len(rows) > SIZE:
        wide = [i for i in record.wide_rows if len(results.rows[i]["columns"]) > 2]
        rows = [wide[k] for k in thin(len(wide), to=SIZE)]
    if len(columns) > SIZE:
        learned = {j for j in columns if results.learned_at[j] in rows}
        # If few tasks were learned at these rows, fill the map with other tasks.
        evenly = thin(len(columns), to=SIZE - len(learned)) if len(learned) <= SIZE // 2 else []
        columns = sorted(learned | set(evenly))
    return rows, columns


def heat_map(
    results: Results, mode: str, quantity: str, *, rows: list[int], columns: list[int], scale: tuple[float, float]
) -> Heat:
    r = results.matrix(mode, quantity)
    names = [visible(name) for name in results.tasks]
    # A stream may teach several tasks in one phase: the row is called by the first of them.
    taught = {int(row): j for j, row in reversed(list(enumerate(results.learned_at)))}
    # A share has nothing before its point: it needs one digit more than a loss.
    digits = 2 if sign(quantity) < 0 else 3
    return Heat(
        name=f"R-{mode}-{quantity}",
        mode=mode,
        meaning=MEANINGS[results.used][mode],
        quantity=quantity,
        unit=quantity_of(quantity).unit,
        columns=[(str(j + 1), f"task {j + 1}, {names[j]}") for j in columns],
        rows=[
            (*row_names(i, names, taught), list(squares(r, i, columns, results=results, scale=scale, digits=digits)))
            for i in rows
        ],
        low=number(scale[0]),
        high=number(scale[1]),
        readable=len(columns) <= READABLE,
        note=thinning_note(results, rows, columns),
    )


def row_names(i: int, names: Sequence[str], taught: dict[int, int]) -> tuple[str, str]:
    """Return the short and the full name of row `i`; `taught` maps a row to its task."""
    if i == 0:
        return "before", "before the stream"
    name = names[taught[i]] if i in taught else ""
    return f"{i} {name}", f"after phase {i}" + (f", {name}" if name else "")


def squares(
    r: np.ndarray, i: int, columns: Sequence[int], *, results: Results, scale: tuple[float, float], digits: int
) -> Iterator[Square]:
    low, high = scale
    for j in columns:
        x, learned = float(r[i, j]), bool(results.learned_at[j] == i)
        if not math.isfinite(x):
            yield Square(NOT_MEASURED, "", None, learned)
            continue
        # Where all values are equal there is no scale: any colour is the right one.
        level = round((LEVELS - 1) * (x - low) / (high - low)) if high > low else 0
        yield Square(f"{x:.{digits}f}", f"{x:.6g}", level, learned)


def thinning_note(results: Results, rows: Sequence[int], columns: Sequence[int]) -> str:
    """Say how many rows and columns are shown, if not all are."""
    parts = []
    if len(rows) < len(results.rows):
        parts.append(f"{len(rows)} of {len(results.rows)} rows")
    if len(columns) < len(results.tasks):
        parts.append(f"{len(columns)} of {len(results.tasks)} tasks")
    return f"Shown: {' and '.join(parts)}, evenly chosen; results.json has all." if parts else ""
