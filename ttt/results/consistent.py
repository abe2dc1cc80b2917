"""Do the parts of results fit together? A file that was changed by hand may hold any numbers."""

from __future__ import annotations

from collections.abc import Sequence

from ttt.results.results import Results
from ttt.results.rows import Row
from ttt.results.scores import Scores


def inconsistency(results: Results) -> str:
    """The first thing that does not fit, in words that follow "FILE: "; empty where all does."""
    tasks, phases = len(results.tasks), results.phases
    for name in ("fingerprints", "learned_at", "entropy", "tags"):
        if len(getattr(results, name)) != tasks:
            return f"{name} must have an entry for each of {tasks} tasks"
    if not all(0 <= row <= phases + 1 for row in results.learned_at):
        return f"learned_at must name rows of R, of which {phases + 1} are complete"
    if len(results.rows) > phases + 1:
        return f"{len(results.rows)} rows are more than {phases} phases have"
    first: Scores = results.rows[0]["scores"] if results.rows else {}
    for i, row in enumerate(results.rows):
        if not _fits(row, tasks=tasks, like=first):
            return f"rows[{i}] does not fit the first row and {tasks} tasks"
    for point in results.points:
        if not _fit(point["scores"], point["columns"], tasks=tasks, like=first):
            return f"the point at step {point['step']} does not fit the first row and {tasks} tasks"
    return ""


def _fits(row: Row, *, tasks: int, like: Scores) -> bool:
    """Has the row scores for its columns, and one number for everything else?"""
    current = [] if row["current"] is None else [row["current"]]
    others = [scores for scores in (row["base"], *row.get("known_sets", {}).values()) if scores]
    has_profile = row["profile"] is None or len(row["profile"]) == len(row["columns"])
    is_whole = has_profile and _are_tasks(current, tasks) and all(map(_single, others))
    return is_whole and _fit(row["scores"], row["columns"], tasks=tasks, like=like)


def _fit(scores: Scores, columns: Sequence[int], *, tasks: int, like: Scores) -> bool:
    """Is there a value for each of the columns, in the modes and quantities of `like`?"""
    lengths = {len(values) for quantities in scores.values() for values in quantities.values()}
    same = {mode: [*quantities] for mode, quantities in scores.items()} == {mode: [*q] for mode, q in like.items()}
    return same and lengths <= {len(columns)} and _are_tasks(columns, tasks)


def _are_tasks(columns: Sequence[int], tasks: int) -> bool:
    return all(0 <= j < tasks for j in columns) and len(set(columns)) == len(columns)


def _single(scores: Scores) -> bool:
    """Is there one value for each quantity?"""
    return all(len(values) == 1 for quantities in scores.values() for values in quantities.values())
