"""What a sink is: a view of a run for a tool outside of ttt. It only reads, and may fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ttt.config.extras import install
from ttt.results.events import Event
from ttt.results.results import Results

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
    counts what it has. All calls come from one thread, which is not that of the run.
    """

    name: str

    def start(self, run: RunInfo, *, past: Past) -> None:
        """Begin; the events of `past` will follow one by one."""
        ...

    def __call__(self, event: Event) -> None: ...

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        """Close, with what the run cost in `numbers`; return a line that says where to look."""
        ...


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def require(package: str, *, logger: str) -> None:
    """Raise ValueError unless `package`, which an extra of ttt brings, is installed."""
    if find_spec(package) is None:
        raise ValueError(f"logger={logger}: {package} is not installed: {install(logger)}")
