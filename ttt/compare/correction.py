"""The p of many differences at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ttt.compare.sheet import Sheet

Correct = Literal["none", "holm"]
LEVEL = 0.05


def holm(ps: Sequence[float]) -> list[float]:
    """Return p corrected for their number, step by step from the smallest (Holm 1979).

    NaN stays NaN and does not count.
    """
    order = sorted((i for i, p in enumerate(ps) if not math.isnan(p)), key=lambda i: ps[i])
    corrected, largest = list(ps), 0.0
    for rank, i in enumerate(order):
        # The smallest p is multiplied by the number of tests, the next one by one less, and so on;
        # none may come out below the one before it.
        largest = max(largest, min(1.0, (len(order) - rank) * ps[i]))
        corrected[i] = largest
    return corrected


def corrected_by_holm(sheet: Sheet) -> Sheet:
    """The sheet with every p of its differences corrected for all of them.

    Raises ValueError where it has no p.
    """
    ps = [cell.p for _, cells in sheet.rows for cell in cells]
    tests = sum(not math.isnan(p) for p in ps)
    if not tests:
        raise ValueError("--correct holm: these cells have no p; it goes with --baseline or --frontier")
    corrected = iter(holm(ps))
    rows = [(words, [replace(cell, p=next(corrected)) for cell in cells]) for words, cells in sheet.rows]
    return replace(sheet, rows=rows, legend=[*sheet.legend, f"p corrected by Holm for {tests} tests"])
