"""A run folder as a report reads it: finished, or as far as it came."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ttt.compare.runs import read_config, read_json, read_results
from ttt.results.results import Results
from ttt.results.rows import Point, rows_from_json, scores_from_json
from ttt.results.scores import Scores
from ttt.storage.run_folder import alive

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """`results` has a column for every task; of a run that is not complete it has the rows so far.

    `trained` and `evaluated` are the events of metrics.jsonl; `samples` is None where the run kept none.
    """

    folder: Path
    config: Json
    config_text: str
    environment: Json
    status: Json
    results: Results
    complete: bool
    trained: Sequence[Json]
    evaluated: Sequence[Json]
    samples: Sequence[Mapping[str, str]] | None

    @property
    def modes(self) -> list[str]:
        """Without fast weights every mode is mode slow: it is not shown twice."""
        modes = self.results.modes
        return [mode for mode in modes if mode == "slow" or self.has_fast]

    @property
    def has_fast(self) -> bool:
        return str(self.config["adapter"].get("name")) != "none"

    @property
    def main_mode(self) -> str:
        return self.results.used if self.has_fast else "slow"

    @cached_property
    def seen(self) -> Results:
        """As if the stream had ended with the last row."""
        return so_far(self.results)

    def metric(self, name: str) -> float:
        """MODE/QUANTITY/METRIC over the tasks learned by now."""
        return self.seen.metric(name)

    @cached_property
    def forgetting(self) -> str:
        """The headline's variant where it is defined, else the one that thinned rows leave defined."""
        undefined = math.isnan(self.metric(f"{self.main_mode}/loss/forgetting_max_seen"))
        return "forgetting_at_learn" if undefined else "forgetting_max_seen"

    @property
    def wide_rows(self) -> list[int]:
        """Rows with more than the task just learned and the next: every task learned by then, or many of them."""
        return [i for i, row in enumerate(self.results.rows) if len(row["columns"]) > 2 or self._holds_all(i)]

    def _holds_all(self, i: int) -> bool:
        """Does the row have every task that was learned by then?"""
        known = np.flatnonzero(self.results.learned_at <= i)
        return set(known.tolist()) <= set(self.results.rows[i]["columns"])


def read(folder: Path) -> Record:
    """Raises ValueError in one line for a folder that is no run, or holds a file that cannot be read."""
    if not (folder / "status.json").is_file() and not (folder / "results.json").is_file():
        raise ValueError(f"{folder}: is no run folder (neither status.json nor results.json)")
    status = _json(folder / "status.json")
    if not (folder / "config.yaml").is_file():
        raise ValueError(f"{folder}: has measured nothing yet (status: {status.get('status', 'unknown')})")
    config = read_config(folder)
    events = read_events(folder / "metrics.jsonl")
    evaluated = [event for event in events if event["event"] == "evaluated"]
    trained = [event for event in events if event["event"] == "trained" and event["task"] > 0]
    inside = [event for event in events if event["event"] == "probed"]
    complete = (folder / "results.json").is_file()
    samples = _json(folder / "samples.json") if (folder / "samples.json").is_file() else None
    return Record(
        folder=folder,
        config=config,
        config_text=(folder / "config.yaml").read_text(),
        environment=_json(folder / "environment.json"),
        status=status | _owner(folder, status),
        results=read_results(folder) if complete else rebuilt(evaluated, trained, inside, config=config),
        complete=complete,
        trained=trained,
        evaluated=evaluated,
        samples=samples,  # type: ignore[arg-type]
    )


def _json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = read_json(file) if file.is_file() else {}
    return content


def read_events(file: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl. A last line without an end is still being written: it does not count yet."""
    if not file.is_file():
        return []
    lines = file.read_bytes().split(b"\n")[:-1]
    events = []
    for number, line in enumerate(lines, start=1):
        try:
            events.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{file}: line {number} is no JSON ({error})") from error
    return events


def _owner(folder: Path, status: Json) -> dict[str, str]:
    """A run that was killed cannot say so: its lock names a process that is gone."""
    lock = folder / "lock"
    if status.get("status") != "running" or not lock.is_file():
        return {}
    owner = _json(lock)
    gone = owner.get("host") == socket.gethostname() and not alive(int(owner.get("pid", 0)))
    return {"reason": "its process is gone; the same command resumes it"} if gone else {}


def rebuilt(evaluated: Sequence[Json], trained: Sequence[Json], inside: Sequence[Json], *, config: Json) -> Results:
    """What results.json would hold by now. A task that was not learned yet is learned at a row that is not there."""
    kept = ("columns", "base", "step", "current", "diagnostics", "profile")
    rows = rows_from_json([{"scores": e["tasks"], **{key: e[key] for key in kept}} for e in evaluated])
    tasks = len(rows[0]["columns"]) if rows else 0
    names = [f"task {j + 1}" for j in range(tasks)]
    called = {event["task"]: event["task_name"] for event in trained}
    learned_at = [len(rows)] * tasks
    for event in evaluated:
        for j in event["seen"]:
            learned_at[j] = min(learned_at[j], event["row"])
        if event["current"] is not None and event["row"] in called:
            names[event["current"]] = called[event["row"]]
    results = Results(
        scenario=str(config["task"].get("scenario", "")),
        tasks=names,
        fingerprints=[""] * tasks,
        learned_at=learned_at,
        entropy=[float("nan")] * tasks,
        phases=max(0, len(rows) - 1),
    )
    results.rows = rows
    results.every = (config.get("eval") or {}).get("anytime") or 0
    results.points = [
        {"step": e["step"], "columns": e["columns"], "scores": scores_from_json(e["tasks"])} for e in inside
    ]
    return results


def so_far(results: Results) -> Results:
    """As if the stream ended with the last row: the tasks that were learned by then, and no others."""
    kept = [j for j, row in enumerate(results.learned_at) if row < len(results.rows)]
    if len(kept) == len(results.tasks):
        return results
    place = {j: k for k, j in enumerate(kept)}
    made = Results(
        scenario=results.scenario,
        tasks=[results.tasks[j] for j in kept],
        fingerprints=[results.fingerprints[j] for j in kept],
        learned_at=results.learned_at[kept].tolist(),
        entropy=np.asarray(results.entropy)[kept].tolist(),
        phases=results.phases,
    )
    for row in results.rows:
        here, scores = _kept(row["columns"], row["scores"], place)
        profile = row["profile"] and [row["profile"][k] for k in here]
        current = None if row["current"] is None else place[row["current"]]
        columns = [place[row["columns"][k]] for k in here]
        made.rows.append({**row, "columns": columns, "scores": scores, "current": current, "profile": profile})
    made.every, made.relearned = results.every, []
    # The phase that goes on teaches a task that is not learned yet.
    made.points = [_place(point, place) for point in results.points if set(point["columns"]) <= set(place)]
    return made


def _kept(columns: Sequence[int], scores: Scores, place: Mapping[int, int]) -> tuple[list[int], Scores]:
    """Which of the columns stay, and their scores."""
    here = [k for k, j in enumerate(columns) if j in place]
    kept = {
        mode: {quantity: [values[k] for k in here] for quantity, values in quantities.items()}
        for mode, quantities in scores.items()
    }
    return here, kept


def _place(point: Point, place: Mapping[int, int]) -> Point:
    return {"step": point["step"], "columns": [place[j] for j in point["columns"]], "scores": point["scores"]}
