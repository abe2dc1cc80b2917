"""`logger=csv`: one row a measured number, in csv/train.csv, csv/evaluations.csv (after each phase) and csv/anytime.csv
(inside phases) of the run folder."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ttt.results.events import Evaluated, Event, Probed, Trained
from ttt.results.results import Results
from ttt.sinks.base import RunInfo

TRAIN = ("task", "task_name", "task_step", "step", "tokens", "seconds", "loss", "tokens_per_second")
SCORE = ("mode", "quantity", "task", "value")
EVALUATIONS = ("row", "step", "tokens", "seconds", *SCORE)
# learning: the task that is being learned, and how many steps of it are done
ANYTIME = ("learning", "task_step", "step", "tokens", "seconds", *SCORE)
FILES = {"train.csv": TRAIN, "evaluations.csv": EVALUATIONS, "anytime.csv": ANYTIME}


class CsvSink:
    def __init__(self, *, name: str) -> None:
        self.name = name
        self._folder = Path()

    def start(self, run: RunInfo) -> None:
        self._folder = run.folder / "csv"
        self._folder.mkdir(exist_ok=True)
        # A resumed run tells again what was before: it writes its files anew.
        for file, header in FILES.items():
            (self._folder / file).unlink(missing_ok=True)
            self._append(file, [header])

    def __call__(self, event: Event) -> None:
        if isinstance(event, Trained):
            self._append("train.csv", [[getattr(event, column) for column in TRAIN]])
        if isinstance(event, Evaluated):
            axes = [event.row, event.step, event.tokens, event.seconds]
            self._append("evaluations.csv", [[*axes, *score] for score in _scores(event)])
        if isinstance(event, Probed):
            axes = [event.task, event.task_step, event.step, event.tokens, event.seconds]
            self._append("anytime.csv", [[*axes, *score] for score in _scores(event)])

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        return f"CSV: {self._folder}"

    def _append(self, file: str, rows: Sequence[Sequence[object]]) -> None:
        with (self._folder / file).open("a", newline="") as stream:
            csv.writer(stream).writerows(rows)


def _scores(event: Evaluated | Probed) -> Iterator[tuple[str, str, int, float]]:
    for mode, quantities in event.tasks.items():
        for quantity, values in quantities.items():
            for task, value in zip(event.columns, values, strict=True):
                yield mode, quantity, task + 1, value
