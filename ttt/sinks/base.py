"""What a sink is: a view of a run for somebody else's tool. It only reads, and may fail without harm."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ttt.events import Event
from ttt.results import Results

log = logging.getLogger("ttt")


@dataclass(frozen=True)
class RunInfo:
    """Who a run is: `group` is what its seeds have in common, `id` is the hash of its config."""

    id: str
    task: str
    group: str
    name: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    folder: Path


class Sink(Protocol):
    name: str

    def start(self, run: RunInfo) -> None: ...

    def __call__(self, event: Event) -> None: ...

    def finish(self, results: Results, *, exit_code: int) -> str | None:
        """Close; returns a line for the user, where to look."""
        ...


class Guarded:
    """A sink whose first error is one warning and its last word: a tracker never stops a run."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        # Not before it is started, not after it failed.
        self._alive = False

    def start(self, run: RunInfo) -> None:
        self._alive = True
        self._try(lambda: self._sink.start(run))

    def __call__(self, event: Event) -> None:
        self._try(lambda: self._sink(event))

    def finish(self, results: Results, *, exit_code: int) -> str | None:
        return self._try(lambda: self._sink.finish(results, exit_code=exit_code))

    def _try(self, call: Callable[[], str | None]) -> str | None:
        if not self._alive:
            return None
        try:
            return call()
        # Whatever a tracker raises, the run is worth more.
        except Exception as error:
            self._alive = False
            log.warning("logger=%s failed and is off from here on: %s", self._sink.name, first_line(error))
            return None


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
