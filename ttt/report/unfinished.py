"""Results of a run that is not finished: rebuilt from its events, and cut to what is learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ttt.results.results import Results
from ttt.results.rows import Point, rows_from_json, scores_from_json
from ttt.results.scores import Scores

Json = Mapping[str, Any]
# What a row of R has besides its scores, under the same names in an `evaluated` event.
ROW_KEYS = ("columns", "base", "step", "current", "diagnostics", "profile")


def rebuild(evaluated: Sequence[Json], trained: Sequence[Json], probed: Sequence[Json], *, config: Json) -> Results:
    """Return the results so far: what results.json would hold now."""
    rows = rows_from_json(
        [
            {"scores": e["tasks"], "known_sets": e.get("known_sets"), **{key: e[key] for key in ROW_KEYS}}
            for e in evaluated
        ]
    )
    # Row 0 measures every task, however thin later rows are.
    tasks = len(rows[0]["columns"]) if rows else 0
    results = Results(
        scenario=str(config["task"].get("scenario", "")),
        tasks=_task_names(evaluated, trained, count=tasks),
        fingerprints=[""] * tasks,
        learned_at=_learned_at(evaluated, tasks=tasks, rows=len(rows)),
        entropy=[float("nan")] * tasks,
        phases=max(0, len(rows) - 1),
    )
    results.rows = rows
    results.every = (config.get("eval") or {}).get("anytime") or 0
    results.points = [
        {"step": e["step"], "columns": e["columns"], "scores": scores_from_json(e["tasks"])} for e in probed
    ]
    return results


def _task_names(evaluated: Sequence[Json], trained: Sequence[Json], *, count: int) -> list[str]:
    """Only training events name tasks: a task that was not trained yet is called by its number."""
    names = [f"task {j + 1}" for j in range(count)]
    by_phase = {event["task"]: event["task_name"] for event in trained}
    for event in evaluated:
        if event["current"] is not None and event["row"] in by_phase:
            names[event["current"]] = by_phase[event["row"]]
    return names


def _learned_at(evaluated: Sequence[Json], *, tasks: int, rows: int) -> list[int]:
    """The row after which each task is learned; `rows`, which does not exist, if it is not yet."""
    learned_at = [rows] * tasks
    for event in evaluated:
        for j in event["seen"]:
            learned_at[j] = min(learned_at[j], event["row"])
    return learned_at


def so_far(results: Results) -> Results:
    """Return the results as if the stream had ended with the last row.

    They hold only the tasks that were learned by then.
    """
    # `rebuild` puts tasks that are not learned yet at a row that does not exist.
    learned = [j for j, row in enumerate(results.learned_at) if row < len(results.rows)]
    if len(learned) == len(results.tasks):
        return results
    # This maps the number of a task in the whole stream to that among the learned ones.
    place = {j: k for k, j in enumerate(learned)}
    part = Results(
        scenario=results.scenario,
        tasks=[results.tasks[j] for j in learned],
        fingerprints=[results.fingerprints[j] for j in learned],
        learned_at=results.learned_at[learned].tolist(),
        entropy=np.asarray(results.entropy)[learned].tolist(),
        phases=results.phases,
    )
    for row in results.rows:
        indices = [k for k, j in enumerate(row["columns"]) if j in place]
        columns = [place[row["columns"][k]] for k in indices]
        profile = row["profile"] and [row["profile"][k] for k in indices]
        # The task that a row has just learned is learned, so it has a place.
        current = None if row["current"] is None else place[row["current"]]
        scores = _select(row["scores"], indices)
        part.rows.append({**row, "columns": columns, "scores": scores, "current": current, "profile": profile})
    part.every, part.relearned = results.every, []
    # Points of the phase that is going on measure a task that is not learned yet: leave them out.
    part.points = [_renumber(point, place) for point in results.points if set(point["columns"]) <= set(place)]
    return part


def _select(scores: Scores, indices: Sequence[int]) -> Scores:
    return {
        mode: {quantity: [values[k] for k in indices] for quantity, values in quantities.items()}
        for mode, quantities in scores.items()
    }


def _renumber(point: Point, place: Mapping[int, int]) -> Point:
    return {"step": point["step"], "columns": [place[j] for j in point["columns"]], "scores": point["scores"]}
