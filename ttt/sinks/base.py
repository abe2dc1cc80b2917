"""What a sink is: a view of a run for a tool outside of ttt. It only reads, and may fail."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ttt.config.extras import install
from ttt.results.events import Event
from ttt.results.results import Results

log = logging.getLogger("ttt")
# Reads the events of a run so far from its journal, in order, as often as it is called: a journal
# may be longer than one wants to hold in memory.
Past = Callable[[], Iterable[Event]]


@dataclass(frozen=True)
class RunInfo:
    """The names of a run: `group` is what its seeds have in common, `id` is the hash of its config.

    `folder` is the run folder; trackers may keep their own files in it.
    """

    id: str
    task: str
    group: str
    name: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    folder: Path


class Sink(Protocol):
    """A tracker: it gets `start`, then every event of the run once and in order, then `finish`.

    A resumed run starts its sink again and repeats all events up to its checkpoint; events that an
    earlier process showed beyond the checkpoint come a second time. So a sink begins afresh, or
    counts what it has.
    """

    name: str

    def start(self, run: RunInfo, *, past: Past) -> None:
        """Begin; the events of `past` will follow one by one."""
        ...

    def __call__(self, event: Event) -> None: ...

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        """Close, with what the run cost in `numbers`; return a line that says where to look."""
        ...


class Guarded:
    """A sink whose first error is logged once and switches it off: a tracker never stops a run."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        # False before the start and after a failure: in both cases nothing reaches the sink.
        self._alive = False

    def start(self, run: RunInfo, *, past: Past) -> None:
        """Begin, and repeat what a resumed run has measured up to its checkpoint."""
        self._alive = True
        self._try(lambda: self._sink.start(run, past=past))
        self._try(lambda: self._replay(past))

    def _replay(self, past: Past) -> None:
        for event in past():
            self._sink(event)

    def __call__(self, event: Event) -> None:
        self._try(lambda: self._sink(event))

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        """Close; return a line for the user, or None where the sink has none or has failed."""
        return self._try(lambda: self._sink.finish(results, numbers=numbers, exit_code=exit_code))

    def _try(self, call: Callable[[], str | None]) -> str | None:
        if not self._alive:
            return None
        try:
            return call()
        # Trackers raise whatever their network and their client raise; none of it may end a run.
        except Exception as error:
            self._alive = False
            log.warning("logger=%s failed and is off from here on: %s", self._sink.name, first_line(error))
            return None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def require(package: str, *, logger: str) -> None:
    """Raise ValueError unless `package`, which an extra of ttt brings, is installed."""
    if find_spec(package) is None:
        raise ValueError(f"logger={logger}: {package} is not installed: {install(logger)}")
