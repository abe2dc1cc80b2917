"""What a table has to say below it: about a star beside its p, and about what its seeds vary."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ttt.compare.correction import LEVEL, Correct
from ttt.compare.groups import Group
from ttt.compare.sheet import Cell, Sheet


def notes(sheet: Sheet, *, correct: Correct = "none") -> list[str]:
    """What a reader of the stars, the bold and the p of a table has to know: a line for each."""
    cells = [cell for _, row in sheet.rows for cell in row]
    return [*_without_spread(cells), *_about_p([cell for cell in cells if not math.isnan(cell.p)], correct)]


def _without_spread(cells: Sequence[Cell]) -> list[str]:
    count = sum(cell.lacks_spread for cell in cells)
    if not count:
        return []
    which = "1 cell has" if count == 1 else f"Each of {count} cells has"
    return [
        f"{which} no star or bold, since all of its seeds show exactly the same: without spread nothing is known of "
        "what chance would do"
    ]


def _about_p(tests: Sequence[Cell], correct: Correct) -> list[str]:
    """Why no p is small, and where a p and its star disagree."""
    if not tests:
        return []
    lines = []
    # With n pairs there are 2^n sign patterns, and the two extreme ones always count.
    fewest = min(cell.interval.n for cell in tests)
    factor = len(tests) if correct == "holm" else 1
    least = 2 / 2**fewest * factor
    if least > LEVEL:
        why = f" times {len(tests)} tests" if correct == "holm" else ""
        enough = next(n for n in range(fewest, 64) if 2 / 2**n * factor <= LEVEL)
        lines.append(
            f"The sign-flip test over {fewest} pairs gives no p below 2/2^{fewest}{why} = {min(least, 1.0):.4g}, "
            f"however clear a difference is; p can be {LEVEL} or less from {enough} pairs on"
        )
    apart = sum(cell.resolved != (cell.p <= LEVEL) for cell in tests)
    if apart:
        single = " of its cell alone" if correct == "holm" else ""
        lines.append(
            f"Star and p disagree in {apart} of {len(tests)} cells: a star is the verdict of the interval{single}, "
            "which takes differences to be normal; p takes nothing but their signs to be exchangeable"
        )
    return lines


def seed_notes(groups: Sequence[Group]) -> list[str]:
    """What seeds have in common that a reader would take for varied, in at most one line."""
    count = sum(map(_differs_in_batches, groups))
    if not count:
        return []
    which = "" if count == len(groups) else f" of {count} of {len(groups)} groups"
    return [
        f"The seeds{which} have all their tasks in common, in one order, and the base: they differ in their batches "
        "only, and intervals say nothing about other tasks or bases"
    ]


def _differs_in_batches(group: Group) -> bool:
    """Do the runs of a group share their tasks, by name, and their base?"""
    first = group.runs[0]
    tasks = first.results.tasks
    # What a seed draws is no task in common, though each seed calls it `permutation 1`.
    is_numbered = all(name.endswith(f" {j}") for j, name in enumerate(tasks, start=1))
    # Runs that have a base each either know it, or lack base.seed: see `group_runs`.
    has_one_base = len({run.base for run in group.runs}) == 1 and (
        first.base is not None or "base.seed" in first.config
    )
    is_shared = all(run.results.tasks == tasks for run in group.runs)
    return len(group.runs) > 1 and has_one_base and is_shared and not is_numbered
