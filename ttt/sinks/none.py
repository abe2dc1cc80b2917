"""`logger=none`: no tracker; the run folder holds metrics.jsonl and results.json in any case."""

from __future__ import annotations

from collections.abc import Mapping

from ttt.results.events import Event
from ttt.results.results import Results
from ttt.sinks.base import Past, RunInfo


class NoSink:
    """Ignore everything."""

    def __init__(self, *, name: str) -> None:
        self.name = name

    def start(self, run: RunInfo, *, past: Past) -> None:
        pass

    def __call__(self, event: Event) -> None:
        pass

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        return None
