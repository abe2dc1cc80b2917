"""A run folder as a report reads it, whether the run is finished or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ttt.report.unfinished import rebuild, so_far
from ttt.results import catalogue
from ttt.results.consistent import inconsistency
from ttt.results.results import Results
from ttt.storage import journal
from ttt.storage.content import Environment, Sample
from ttt.storage.read import read_config, read_results
from ttt.storage.run_folder import RunFolder
from ttt.storage.whole import read_status, read_whole

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Record:
    """What a run folder holds.

    `results` has a column for every task, and for a run that is not complete the rows so far.
    `trained` and `evaluated` are the events of metrics.jsonl; `samples` is None if none were kept.
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
        """The modes to show: only slow without fast weights, where all modes are the same."""
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
        """The results as if the stream had ended with the last row."""
        return so_far(self.results)

    def metric(self, name: str) -> float:
        """Return MODE/QUANTITY/METRIC over the tasks that are learned so far."""
        return catalogue.metric(self.seen, name)

    @cached_property
    def forgetting(self) -> str:
        """The headline variant of forgetting, or the one that is defined if rows were thinned."""
        undefined = math.isnan(self.metric(f"{self.main_mode}/loss/forgetting_max_seen"))
        return "forgetting_at_learn" if undefined else "forgetting_max_seen"

    @property
    def wide_rows(self) -> list[int]:
        """The rows that measure more than the task just learned and the next one.

        A row that holds every task learned by then counts as wide however few tasks these are.
        """
        # Thinned rows measure two tasks: the one just learned and the next.
        return [i for i, row in enumerate(self.results.rows) if len(row["columns"]) > 2 or self._is_complete(i)]

    def _is_complete(self, i: int) -> bool:
        """Does row `i` measure every task that was learned by then?"""
        learned = np.flatnonzero(self.results.learned_at <= i)
        return set(learned.tolist()) <= set(self.results.rows[i]["columns"])


def read_record(folder: Path) -> Record:
    """Read a run folder.

    Raises ValueError in one line if it is not a run folder, or if one of its files cannot be read.
    """
    files = RunFolder(folder)
    if not files.status_file.is_file() and not files.results.is_file():
        raise ValueError(f"{folder}: is no run folder (neither status.json nor results.json)")
    status = read_status(files.status_file) if files.status_file.is_file() else {}
    # A run writes its status before its config: without a config it has hardly begun.
    if not files.config.is_file():
        raise ValueError(f"{folder}: has measured nothing yet (status: {status.get('status', 'unknown')})")
    config = read_config(folder)
    events = journal.read(files.metrics)
    evaluated = [event for event in events if event["event"] == "evaluated"]
    # Task 0 is the base phase, which is not part of the stream.
    trained = [event for event in events if event["event"] == "trained" and event["task"] > 0]
    probed = [event for event in events if event["event"] == "probed"]
    complete = files.results.is_file()
    return Record(
        folder=folder,
        config=config,
        config_text=files.config.read_text(),
        environment=_read(files.environment, Environment) or {},
        status=status | _reason_of_death(files, status),
        results=read_results(folder) if complete else _so_far(files, evaluated, trained, probed, config=config),
        complete=complete,
        trained=trained,
        evaluated=evaluated,
        samples=_read(files.samples, list[Sample]),
    )


def _so_far(
    files: RunFolder, evaluated: Sequence[Json], trained: Sequence[Json], probed: Sequence[Json], *, config: Json
) -> Results:
    """The results of a run that is not done, from its events."""
    results = rebuild(evaluated, trained, probed, config=config)
    fault = inconsistency(results)
    if fault:
        raise ValueError(f"{files.metrics}: {fault}")
    return results


def _read(file: Path, kind: Any) -> Any:
    """The content of a file of this kind; None where there is no such file."""
    return read_whole(file, kind) if file.is_file() else None


def _reason_of_death(files: RunFolder, status: Json) -> dict[str, str]:
    """Return a reason for the status of a run that was killed, else nothing.

    Such a run could not change its status, but nobody holds its lock.
    """
    if status.get("status") != "running" or not files.lock.path.is_file():
        return {}
    # The system releases a lock with its process, however that ended.
    gone = not files.lock.is_taken()
    return {"reason": "its process is gone; the same command resumes it"} if gone else {}
