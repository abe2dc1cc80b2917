"""What `ttt-stream` says and keeps while it reads: progress, events, states, and the end."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ttt.cli.console import Console
from ttt.cli.streaming.arguments import is_several
from ttt.cli.streaming.opening import Opened
from ttt.cli.streaming.show import event_numbers, line_of, result_of, session_numbers, total_of
from ttt.config.visible import visible
from ttt.results.rows import plain
from ttt.serving.readers import Readers
from ttt.serving.rules import Event
from ttt.serving.session import TextSession
from ttt.storage.files import write_json
from ttt.storage.run_folder import PAGE

EVENTS, NUMBERS = "events.jsonl", "stream.json"
# Seconds between two lines of progress, where standard error is no terminal.
PAUSE = 10.0
WIDTH = 120


class Watch:
    """Follows the sessions of one command."""

    def __init__(self, typed: argparse.Namespace, opened: Opened) -> None:
        self._typed, self._opened = typed, opened
        self._sessions: Readers
        self._screen = Console(stderr=True, highlight=False)
        self._status = self._screen.status("")
        self._log: BinaryIO | None = None
        self._start = self._said = time.perf_counter()
        self._before, self._has_begun = 0, False

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._status.stop()
        if self._log is not None:
            self._log.close()

    def begin(self, sessions: Readers, extra: Mapping[str, Any]) -> None:
        """Begin to follow; `extra` was kept beside the state that reading goes on from."""
        self._sessions = sessions
        self._before = self._read
        # What was said after the last saved state is said again: cut it off.
        if self._typed.out is not None:
            self._log = open_log(self._typed.out, size=extra.get("events", 0))
        if self._screen.is_terminal:
            self._status.start()
        self._start = self._said = time.perf_counter()

    def after_round(self, events: Sequence[Event]) -> None:
        """Say what happened, then save: what is said twice after a kill is said alike."""
        if not self._has_begun:
            self._say_head()
        for event in events:
            line = json.dumps(plain(event_numbers(event)), ensure_ascii=False)
            if self._typed.json:
                print(line, flush=True)
            if self._log is not None:
                self._log.write(line.encode() + b"\n")
            if event.kind == "norm":
                self._say(f"the fast weights leave their usual range: norm {line_of(event)}")
        self._save()
        self._progress()

    def _say_head(self) -> None:
        # Not before something is read: a wrong text is refused in one line.
        self._has_begun = True
        before = f"; {self._before:,} tokens were read before" if self._before else ""
        size = f"{self._sessions.form.empty.size / 1e6:.2f} MB of state for each text{before}"
        self._say(f"reads with {self._opened.owner.named()}, {self._opened.weights}; {size}")

    def show(self) -> None:
        """The result."""
        self._status.stop()
        seconds = time.perf_counter() - self._start
        if not self._typed.json:
            console = Console(highlight=False)
            if not console.is_terminal:
                console.width = max(console.width, WIDTH)
            title, table = result_of(self._texts)
            console.print(title, markup=False)
            console.print(table)
        if self._typed.out is not None:
            self._keep(seconds)
        pace = (self._read - self._before) / seconds
        state = f"; state in {self._typed.state}" if self._typed.state is not None else ""
        self._say(f"{seconds:.1f} s, {pace:,.0f} tokens/s{state}")

    def said(self, session: str, tokens: Sequence[int]) -> None:
        """What was written behind a text."""
        text = self._opened.text(tokens)
        said = json.dumps({"event": "said", "session": session, "text": text})
        print(said if self._typed.json else visible(text), flush=True)
        self._save()

    def _say(self, line: str) -> None:
        # Whole, so that another program can read it; a name may look like markup.
        self._screen.print(line, soft_wrap=True, markup=False)

    @property
    def _texts(self) -> Mapping[str, TextSession]:
        return self._sessions.sessions

    @property
    def _read(self) -> int:
        return sum(x.meter.read for x in self._texts.values())

    def _save(self) -> None:
        # Before the state, which says how long the file of events is.
        if self._log is not None:
            self._log.flush()
            os.fsync(self._log.fileno())
        if self._typed.state is None:
            return
        # Kept beside the state, so that both go on from the same block.
        extra = {"events": self._log.tell() if self._log is not None else 0}
        if is_several(self._typed):
            self._sessions.save(extra)
        else:
            for name in self._texts:
                self._sessions.write_file(self._typed.state, name, extra)

    def _progress(self) -> None:
        now = time.perf_counter()
        if not self._screen.is_terminal and now - self._said < PAUSE:
            return
        self._said = now
        size, pace = sum(x.meter.size for x in self._texts.values()), (self._read - self._before) / (now - self._start)
        bits = total_of(self._texts).bits
        text = f"{size / 1e6:.2f} MB, {'-' if bits is None else f'{bits:.3f}'} bits per byte, {pace:,.0f} tokens/s"
        if self._screen.is_terminal:
            self._status.update(text)
        else:
            self._say(text)

    def _keep(self, seconds: float) -> None:
        """Write the numbers and the page."""
        # Imported here: matplotlib takes a while, and most readings keep no page.
        from ttt.report.reading import write_reading

        texts = {name: session_numbers(session) for name, session in self._sessions.sessions.items()}
        reader = asdict(self._opened.owner)
        content = plain(
            {"reader": reader, "settings": self._sessions.rules.settings, "seconds": seconds, "sessions": texts}
        )
        write_json(self._typed.out / NUMBERS, content)
        write_reading(self._typed.out / PAGE, content)


def open_log(folder: Path, *, size: int) -> BinaryIO:
    """The file of events, cut to what it held when the state was saved."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / EVENTS).open("ab")
    except OSError as error:
        raise ValueError(f"--out {folder}: cannot be written: {error.strerror}") from error
    # Shorter than it was then, if somebody has changed it.
    file.truncate(min(size, file.tell()))
    file.seek(0, os.SEEK_END)
    return file
