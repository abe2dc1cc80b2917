"""`logger=csv`: one row a measured number, in csv/train.csv and csv/evaluations.csv of the run folder."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from ttt.events import Evaluated, Event, Trained
from ttt.results import Results
from ttt.sinks.base import RunInfo

TRAIN = ("task", "task_name", "task_step", "step", "tokens", "seconds", "loss", "tokens_per_second")
EVALUATIONS = ("row", "step", "tokens", "seconds", "mode", "quantity", "task", "value")


class CsvSink:
    def __init__(self, *, name: str) -> None:
        self.name = name
        self._folder = Path()

    def start(self, run: RunInfo) -> None:
        self._folder = run.folder / "csv"
        self._folder.mkdir(exist_ok=True)
        # A resumed run tells again what was before: it writes its files anew.
        for file, header in (("train.csv", TRAIN), ("evaluations.csv", EVALUATIONS)):
            (self._folder / file).unlink(missing_ok=True)
            self._append(file, [header])

    def __call__(self, event: Event) -> None:
        if isinstance(event, Trained):
            self._append("train.csv", [[getattr(event, column) for column in TRAIN]])
        if isinstance(event, Evaluated):
            axes = [event.row, event.step, event.tokens, event.seconds]
            rows = [
                [*axes, mode, quantity, task + 1, value]
                for mode, quantities in event.tasks.items()
                for quantity, values in quantities.items()
                for task, value in zip(event.columns, values, strict=True)
            ]
            self._append("evaluations.csv", rows)

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        return f"CSV: {self._folder}"

    def _append(self, file: str, rows: Sequence[Sequence[object]]) -> None:
        with (self._folder / file).open("a", newline="") as stream:
            csv.writer(stream).writerows(rows)
