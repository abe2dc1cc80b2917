"""What a cell of a table says."""

from __future__ import annotations

import math

from ttt.compare.sheet import Cell


def cell_text(cell: Cell) -> str:
    """mean ± half of the interval or its ends, with * where the interval leaves out zero."""
    mean, half, n, _, ends = cell.interval
    # Only NaN differs from itself.
    if mean != mean:
        return "-"
    text = f"{mean:{'+' if cell.difference else ''}{_form(mean)}}"
    if n < 2:
        return text
    if ends is None:
        text += f" ±{half:{_form(half)}}"
    elif math.isinf(half):
        # Nothing was gained for certain, so that any ratio agrees with these runs.
        text += " unbounded"
    else:
        text += f" [{ends[0]:{_form(ends[0])}}, {ends[1]:{_form(ends[1])}}]"
    return text + ("*" if cell.resolved else "")


def _form(value: float) -> str:
    """A format: three decimals, but large numbers (tokens, bytes) whole."""
    return ",.0f" if abs(value) >= 10_000 else ".3f"


def detail(cell: Cell) -> str:
    """The second line of a cell: the spread over seeds, and the p of a difference."""
    sd = cell.interval.sd
    words = [f"sd {sd:{_form(sd)}}"] if sd == sd else []
    return " ".join([*words, f"p {cell.p:.3f}"] if cell.p == cell.p else words)
