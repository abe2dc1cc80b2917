"""What a run measured, as plain data: rows of R, points between them, relearned tasks; and JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

from ttt.results.scores import Scores

NAN = float("nan")


class Row(TypedDict):
    """One row of R: `scores[mode][quantity]` has a value for each task in `columns` (from 0).

    `base`: the same on the base distribution, one value. `step`: batches trained on, None if
    unknown. `current`: the task just taught. `diagnostics`: numbers by name. `profile`: the loss
    along the context in mode fast, in sixteenths, for each task in `columns`. `known_sets`: scores
    on what the model knew before the stream, by the name of each set, one value; left out where
    there are none.
    """

    columns: list[int]
    scores: Scores
    base: Scores | None
    step: int | None
    current: int | None
    diagnostics: dict[str, float]
    profile: list[list[float]] | None
    known_sets: NotRequired[dict[str, Scores]]


class Point(TypedDict):
    """An evaluation inside a phase, after `step` batches of the stream.

    `columns`: the tasks learned so far, and the current one.
    """

    step: int
    columns: list[int]
    scores: Scores


class Points(TypedDict):
    """Points as results.json has them: `values[mode][quantity]` has a list for each of `steps`."""

    every: int
    steps: list[int]
    columns: list[list[int]]
    values: dict[str, dict[str, list[list[float]]]]


class Relearning(TypedDict):
    """A task learned once more on a copy: a score after each number of `steps`."""

    task: int
    steps: list[int]
    scores: Scores


def rows_from_json(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows of R from JSON, with NaN where JSON has null.

    Scores can be NaN although the row was measured: a half of a sequence may hold no scored token.
    """
    return [_row_from_json(row) for row in rows]


def _row_from_json(content: Mapping[str, Any]) -> Row:
    profile = content["profile"]
    row: Row = {
        "columns": content["columns"],
        "scores": scores_from_json(content["scores"]),
        "base": content["base"] and scores_from_json(content["base"]),
        "step": content["step"],
        "current": content["current"],
        "diagnostics": {name: NAN if x is None else x for name, x in content["diagnostics"].items()},
        "profile": profile and [[NAN if x is None else x for x in pieces] for pieces in profile],
    }
    # Runs without such sets have no key for them, and neither have those of earlier versions.
    if content.get("known_sets"):
        row["known_sets"] = {name: scores_from_json(scores) for name, scores in content["known_sets"].items()}
    return row


def scores_from_json(scores: Mapping[str, Mapping[str, Sequence[float | None]]]) -> Scores:
    """Scores from JSON; null becomes NaN."""
    return {
        mode: {quantity: [NAN if x is None else x for x in values] for quantity, values in quantities.items()}
        for mode, quantities in scores.items()
    }


def compact(points: Sequence[Point]) -> dict[str, Any]:
    """Points as few long lists: `values[mode][quantity]` has one list for each of `steps`.

    Thousands of points would otherwise repeat the names of modes and quantities thousands of times.
    """
    # All points of a run have the same modes and quantities.
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
    """Undo `compact`; null becomes NaN."""
    points: list[Point] = []
    for k, (step, columns) in enumerate(zip(content["steps"], content["columns"], strict=True)):
        scores = {
            mode: {quantity: lists[k] for quantity, lists in quantities.items()}
            for mode, quantities in content["values"].items()
        }
        points.append({"step": step, "columns": columns, "scores": scores_from_json(scores)})
    return points


def relearned_from_json(content: Sequence[Mapping[str, Any]]) -> list[Relearning]:
    """Relearned tasks from JSON; null becomes NaN."""
    return [
        {"task": again["task"], "steps": again["steps"], "scores": scores_from_json(again["scores"])}
        for again in content
    ]


def plain(content: Any) -> Any:
    """`content` as JSON can say it: JSON has no NaN, so numbers that are not finite become null."""
    if isinstance(content, dict):
        return {str(key): plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    # Infinity too: json.dumps would write a word that other programs cannot read.
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
