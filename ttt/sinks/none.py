"""`logger=none`: metrics.jsonl and results.json in the run folder, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from ttt.results.events import Event
from ttt.results.results import Results
from ttt.sinks.base import RunInfo


class NoSink:
    def __init__(self, *, name: str) -> None:
        self.name = name

    def start(self, run: RunInfo) -> None:
        pass

    def __call__(self, event: Event) -> None:
        pass

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        return None
