"""R as a table of coloured cells: readable numbers for few tasks, a picture for many."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np

from ttt.figures.heat import COLORMAP
from ttt.report.record import Record
from ttt.report.text import QUANTITIES, UNITS, clean, number, thin
from ttt.results.results import Results
from ttt.results.scores import sign

# Rows or columns of a picture, and columns up to which its numbers can be read.
SIZE, READABLE = 30, 12
LEVELS = 32
SHOWN = ("loss", "accuracy")


@dataclass(frozen=True)
class Square:
    """`level` of the colour, None where nothing was measured; `learned`: this row's task."""

    text: str
    level: int | None
    learned: bool


@dataclass(frozen=True)
class Heat:
    """`columns` and the names of `rows`: short, and in full."""

    name: str
    mode: str
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
        return f"{QUANTITIES[self.quantity]}, mode {self.mode}"


def palette() -> list[tuple[str, str]]:
    """Background and text of each level."""
    colours = matplotlib.colormaps[COLORMAP](np.linspace(0, 1, LEVELS))[:, :3]
    # Relative luminance of WCAG: above 0.179 black stands out more than white.
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    light = linear @ np.array([0.2126, 0.7152, 0.0722])
    codes = ["#" + "".join(f"{round(255 * c):02x}" for c in colour) for colour in colours]
    return [(code, "#000" if bright > 0.179 else "#fff") for code, bright in zip(codes, light, strict=True)]


def heats(record: Record) -> dict[str, list[Heat]]:
    """quantity -> a picture for each mode, all on one scale."""
    rows, columns = shown(record)
    made = {}
    for quantity in SHOWN:
        arrays = {mode: record.results.matrix(mode, quantity) for mode in record.modes}
        finite = np.concatenate([r[np.isfinite(r)] for r in arrays.values()])
        scale = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        made[quantity] = [
            heat(record.results, mode, quantity, rows=rows, columns=columns, scale=scale) for mode in arrays
        ]
    return made


def shown(record: Record) -> tuple[list[int], list[int]]:
    """Rows and columns: all, or SIZE of them, of rows the wide ones, with the tasks that were learned there."""
    results = record.results
    rows, columns = list(range(len(results.rows))), list(range(len(results.tasks)))
    if len(rows) > SIZE:
        wide = [i for i in record.wide_rows if len(results.rows[i]["columns"]) > 2]
        rows = [wide[k] for k in thin(len(wide), to=SIZE)]
    if len(columns) > SIZE:
        learned = {j for j in columns if results.learned_at[j] in rows}
        # Where few of the tasks are learned at these rows, others fill the picture.
        evenly = thin(len(columns), to=SIZE - len(learned)) if len(learned) <= SIZE // 2 else []
        columns = sorted(learned | set(evenly))
    return rows, columns


def heat(
    results: Results, mode: str, quantity: str, *, rows: list[int], columns: list[int], scale: tuple[float, float]
) -> Heat:
    r = results.matrix(mode, quantity)
    names = [clean(name) for name in results.tasks]
    taught = {int(row): j for j, row in reversed(list(enumerate(results.learned_at)))}
    readable = len(columns) <= READABLE
    digits = 2 if sign(quantity) < 0 else 3
    made = []
    for i in rows:
        label, full = row_names(i, names, taught)
        made.append((label, full, list(squares(r, i, columns, results=results, scale=scale, digits=digits))))
    return Heat(
        name=f"R-{mode}-{quantity}",
        mode=mode,
        quantity=quantity,
        unit=UNITS[quantity],
        columns=[(str(j + 1), f"task {j + 1}, {names[j]}") for j in columns],
        rows=made,
        low=number(scale[0]),
        high=number(scale[1]),
        readable=readable,
        note=note(results, rows, columns),
    )


def row_names(i: int, names: Sequence[str], taught: dict[int, int]) -> tuple[str, str]:
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
            yield Square("·", None, learned)
            continue
        level = round((LEVELS - 1) * (x - low) / (high - low)) if high > low else 0
        yield Square(f"{x:.{digits}f}", level, learned)


def note(results: Results, rows: Sequence[int], columns: Sequence[int]) -> str:
    """What is not shown."""
    parts = []
    if len(rows) < len(results.rows):
        parts.append(f"{len(rows)} of {len(results.rows)} rows")
    if len(columns) < len(results.tasks):
        parts.append(f"{len(columns)} of {len(results.tasks)} tasks")
    return f"Shown: {' and '.join(parts)}, evenly chosen; results.json has all." if parts else ""
