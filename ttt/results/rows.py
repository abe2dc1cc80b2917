"""What a run measured, as plain data: rows of R, points between them, tasks relearned on a copy. And back from JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from ttt.results.scores import Scores

NAN = float("nan")


class Row(TypedDict):
    """One row of R: `scores[mode][quantity]` has a value for each task in `columns` (from 0); `base` likewise.

    `step`: optimizer steps done (None: unknown). `current`: the task just taught. `diagnostics`: numbers by name.
    `profile`: for each of `columns` the loss along the context in mode fast, see `ttt.evaluation.evaluate.PIECES`.
    """

    columns: list[int]
    scores: Scores
    base: Scores | None
    step: int | None
    current: int | None
    diagnostics: dict[str, float]
    profile: list[list[float]] | None


class Point(TypedDict):
    """An evaluation inside a phase: the tasks learned so far and the current one, after `step` optimizer steps."""

    step: int
    columns: list[int]
    scores: Scores


class Relearning(TypedDict):
    """A task learned once more on a copy: `scores[mode][quantity]` has a value after each number of `steps`."""

    task: int
    steps: list[int]
    scores: Scores


def rows_from_json(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows of R as they were measured, where null stands for what was not (no scored token in a half, say)."""
    return [
        {
            "columns": row["columns"],
            "scores": scores_from_json(row["scores"]),
            "base": row["base"] and scores_from_json(row["base"]),
            "step": row["step"],
            "current": row["current"],
            "diagnostics": {name: NAN if x is None else x for name, x in row["diagnostics"].items()},
            "profile": row["profile"] and [[NAN if x is None else x for x in pieces] for pieces in row["profile"]],
        }
        for row in rows
    ]


def scores_from_json(scores: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Scores:
    return {
        mode: {quantity: [NAN if x is None else x for x in values] for quantity, values in quantities.items()}
        for mode, quantities in scores.items()
    }


def compact(points: Sequence[Point]) -> dict[str, Any]:
    """Points as few long lists: `values[mode][quantity]` has a list for each of `steps`, in the order of `columns`."""
    modes = points[0]["scores"] if points else {}
    return {
        "steps": [point["step"] for point in points],
        "columns": [point["columns"] for point in points],
        "values": {
            mode: {quantity: [point["scores"][mode][quantity] for point in points] for quantity in quantities}
            for mode, quantities in modes.items()
        },
    }


def points_from_json(content: Mapping[str, Any]) -> list[Point]:
    """The inverse of `compact`; null is NaN again."""
    points: list[Point] = []
    for k, (step, columns) in enumerate(zip(content["steps"], content["columns"], strict=True)):
        scores = {
            mode: {quantity: lists[k] for quantity, lists in quantities.items()}
            for mode, quantities in content["values"].items()
        }
        points.append({"step": step, "columns": columns, "scores": scores_from_json(scores)})
    return points


def relearned_from_json(content: Sequence[Mapping[str, Any]]) -> list[Relearning]:
    return [{"task": one["task"], "steps": one["steps"], "scores": scores_from_json(one["scores"])} for one in content]
