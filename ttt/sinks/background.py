"""A sink behind a thread: a tracker that is slow, refuses or hangs takes no time of a run.

The queue between them is the journal, which has every event on the disk before any sink hears of
it. So the queue takes no memory and loses nothing: what a tracker did not take in time,
`ttt-run sync` sends later from the same file. The thread looks for news by itself: to wake it at
each event would cost the run some milliseconds, in which both want the interpreter.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from ttt.results.events import Event, from_record
from ttt.results.results import Results
from ttt.sinks.base import RunInfo, Sink, first_line
from ttt.sinks.none import NoSink
from ttt.storage.journal import Tail, read

log = logging.getLogger("ttt")
# Seconds that a tracker has at the end of a run: a share of what the run took, within bounds.
SHARE, LEAST, MOST = 0.03, 4.0, 60.0
# Seconds that it has from its start on: a short run waits until its tracker has begun.
WARM_UP = 20.0
# Seconds between two looks for news.
PAUSE = 0.5


class Background:
    """Feed a sink, in a thread of its own, with the events in the file `journal`.

    Its first error is logged once and ends it: a tracker never stops a run.
    """

    def __init__(self, sink: Sink, *, journal: Path) -> None:
        self._sink, self._journal = sink, journal
        self._thread: threading.Thread | None = None
        # No more events come, and `_close` is what the sink is closed with.
        self._is_ending = threading.Event()
        self._close: partial[str | None] | None = None
        self._where: str | None = None
        self._is_given_up = False

    def start(self, run: RunInfo) -> None:
        """Begin with what the journal holds, and return at once."""
        if isinstance(self._sink, NoSink):
            return
        self._began, self._folder = time.monotonic(), run.folder
        self._thread = threading.Thread(target=self._work, args=(run,), daemon=True)
        self._thread.start()

    def finish(self, results: Results, *, numbers: Mapping[str, float], exit_code: int) -> str | None:
        """Close the sink, and wait for it no longer than is fair to the run.

        Return its line that says where to look: None where it has none, has failed or is not ready.
        """
        if self._thread is None:
            return None
        self._close = partial(self._sink.finish, results, numbers=numbers, exit_code=exit_code)
        self._is_ending.set()
        seconds = _patience(time.monotonic() - self._began, exit_code=exit_code)
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._is_given_up = True
            then = "the same command sends the rest" if exit_code else f"to upload: ttt-run sync {self._folder}"
            log.warning("logger=%s: not all was sent %.0f s after the end; %s", self._sink.name, seconds, then)
            return None
        return self._where

    def _work(self, run: RunInfo) -> None:
        try:
            self._sink.start(run, past=lambda: map(from_record, read(self._journal)))
            for event in self._events():
                self._sink(event)
            assert self._close is not None
            self._where = self._close()
        # Trackers raise whatever their network and their client raise; none of it may end a run.
        except Exception as error:
            if not self._is_given_up:
                log.warning("logger=%s failed and is off from here on: %s", self._sink.name, first_line(error))

    def _events(self) -> Iterator[Event]:
        """Yield the events of the journal, as they come, until the sink is to be closed."""
        tail = Tail(self._journal)
        is_whole = False
        while not is_whole:
            # Asked before reading: no event comes after that.
            is_whole = self._is_ending.wait(PAUSE)
            yield from map(from_record, tail)


def _patience(seconds: float, *, exit_code: int) -> float:
    """Return how long to wait for a tracker at the end of a run that took `seconds`."""
    if exit_code:
        # Whoever stops a run does not wait long either.
        return LEAST
    return max(min(max(SHARE * seconds, LEAST), MOST), WARM_UP - seconds)
