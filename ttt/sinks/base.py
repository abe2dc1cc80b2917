"""What a sink is: a view of a run for somebody else's tool. It only reads, and may fail without harm."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ttt.results.events import Event
from ttt.results.results import Results
from ttt.sinks.numbers import past

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
    """`start`, then every event of the run once and in order, then `finish`.

    A resumed run starts its sink again and tells it again what lies behind; what an earlier process showed
    beyond the last checkpoint comes a second time. So a sink begins afresh, or knows how much it has.
    """

    name: str

    def start(self, run: RunInfo) -> None: ...

    def __call__(self, event: Event) -> None: ...

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        """Close; `numbers` are what the run took. Returns a line for the user, where to look."""
        ...


class Guarded:
    """A sink whose first error is one warning and its last word: a tracker never stops a run."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        # Not before it is started, not after it failed.
        self._alive = False

    def start(self, run: RunInfo, *, journal: Path) -> None:
        """Begin; `journal` holds what a resumed run has behind it, and nothing that it will do again."""
        self._alive = True
        self._try(lambda: self._sink.start(run))
        self._try(lambda: self._replay(journal))

    def _replay(self, journal: Path) -> None:
        for event in past(journal):
            self._sink(event)

    def __call__(self, event: Event) -> None:
        self._try(lambda: self._sink(event))

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        return self._try(lambda: self._sink.finish(results, numbers=numbers, exit_code=exit_code))

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


def require(package: str, *, logger: str) -> None:
    """Raises ValueError where the package of an extra is missing."""
    if find_spec(package) is None:
        raise ValueError(f'logger={logger}: {package} is not installed: pip install "ttt[{logger}]"')
