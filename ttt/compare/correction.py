"""The p of many differences at once, and what a table has to say below it about its p and stars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from ttt.compare.table import Cell, Sheet

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
    cells = [cell for _, cells in sheet.rows for cell in cells]
    tests = len(_tests(sheet))
    if not tests:
        raise ValueError("--correct holm: these cells have no p; it goes with --baseline or --frontier")
    ps = iter(holm([cell.p for cell in cells]))
    rows = [(words, [replace(cell, p=next(ps)) for cell in cells]) for words, cells in sheet.rows]
    return replace(sheet, rows=rows, title=f"{sheet.title}; p corrected by Holm for {tests} tests")


def notes(sheet: Sheet, *, correct: Correct = "none") -> list[str]:
    """What a reader of a star and a p side by side has to know, in at most two lines."""
    tests = _tests(sheet)
    if not tests:
        return []
    lines = []
    # With n pairs there are 2^n sign patterns, and the two extreme ones always count.
    fewest = min(cell.interval.n for cell in tests)
    least = 2 / 2**fewest * (len(tests) if correct == "holm" else 1)
    if least > LEVEL:
        why = f" times {len(tests)} tests" if correct == "holm" else ""
        lines.append(
            f"p: with {fewest} pairs no sign-flip test gives less than 2/2^{fewest}{why} = {min(least, 1.0):.4g}, "
            "however clear a difference is; more seeds can"
        )
    apart = sum(cell.resolved != (cell.p <= LEVEL) for cell in tests)
    if apart:
        single = " of this cell alone" if correct == "holm" else ""
        lines.append(
            f"* and p disagree in {apart} of {len(tests)} cells: the star is the word of the interval{single}, which "
            "takes differences to be normal; the p takes nothing but signs to be exchangeable"
        )
    return lines


def _tests(sheet: Sheet) -> list[Cell]:
    return [cell for _, cells in sheet.rows for cell in cells if not math.isnan(cell.p)]
