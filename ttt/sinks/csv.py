"""`logger=csv`: one row per measured number, in three files in csv/ of the run folder.

train.csv holds training steps, evaluations.csv what was measured after each phase, anytime.csv what
was measured inside phases.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ttt.config.visible import cell
from ttt.results.events import Evaluated, Event, Probed, Trained
from ttt.results.results import Results
from ttt.sinks.base import Past, RunInfo

TRAIN = ("task", "task_name", "task_step", "step", "tokens", "seconds", "loss", "tokens_per_second")
SCORE = ("mode", "quantity", "task", "value")
EVALUATIONS = ("row", "step", "tokens", "seconds", *SCORE)
# `learning` is the task being learned (from 1), of which `task_step` steps are done.
ANYTIME = ("learning", "task_step", "step", "tokens", "seconds", *SCORE)
FILES = {"train.csv": TRAIN, "evaluations.csv": EVALUATIONS, "anytime.csv": ANYTIME}


class CsvSink:
    """Append rows as events come, so that the files can be read while the run goes on."""

    def __init__(self, *, name: str) -> None:
        self.name = name
        self._folder = Path()

    def start(self, run: RunInfo, *, past: Past) -> None:
        self._folder = run.folder / "csv"
        self._folder.mkdir(exist_ok=True)
        # A resumed run repeats its past, and old files may hold rows from beyond its checkpoint.
        for file, header in FILES.items():
            (self._folder / file).unlink(missing_ok=True)
            self._append(file, [header])

    def __call__(self, event: Event) -> None:
        if isinstance(event, Trained):
            self._append("train.csv", [[getattr(event, column) for column in TRAIN]])
        if isinstance(event, Evaluated):
            time_axes = [event.row, event.step, event.tokens, event.seconds]
            self._append("evaluations.csv", [[*time_axes, *score] for score in _scores(event)])
        if isinstance(event, Probed):
            time_axes = [event.task, event.task_step, event.step, event.tokens, event.seconds]
            self._append("anytime.csv", [[*time_axes, *score] for score in _scores(event)])

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        return f"CSV: {self._folder}"

    def _append(self, file: str, rows: Sequence[Sequence[object]]) -> None:
        # Without newline="" the csv module's own line ends would be doubled on some systems.
        with (self._folder / file).open("a", newline="") as stream:
            csv.writer(stream).writerows(map(cell, row) for row in rows)


def _scores(event: Evaluated | Probed) -> Iterator[tuple[str, str, int, float]]:
    """Yield mode, quantity, task (from 1) and value of every score of an event."""
    for mode, quantities in event.tasks.items():
        for quantity, values in quantities.items():
            for task, value in zip(event.columns, values, strict=True):
                yield mode, quantity, task + 1, value
