"""Progress on a terminal, and no word of what other programs print meanwhile."""

from __future__ import annotations

import contextlib
import os
import sys
from types import TracebackType

from ttt.cli.console import Console


class Quiet:
    """While open, lm-eval's bars, notes and subprocesses print nowhere; `say` shows a line.

    Errors are raised as ever.
    """

    def __enter__(self) -> Quiet:
        self._stack = contextlib.ExitStack()
        null = self._stack.enter_context(open(os.devnull, "w"))
        # A console of its own: the process's standard error is closed to all others.
        screen = self._stack.enter_context(os.fdopen(os.dup(2), "w"))
        self._stack.callback(_restored, os.dup(2))
        self._status = Console(file=screen).status("")
        if sys.stderr.isatty():
            self._status.start()
            self._stack.callback(self._status.stop)
        os.dup2(null.fileno(), 2)
        self._stack.enter_context(contextlib.redirect_stdout(null))
        self._stack.enter_context(contextlib.redirect_stderr(null))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def say(self, line: str) -> None:
        self._status.update(line)


def _restored(stderr: int) -> None:
    """Give the process its standard error back."""
    os.dup2(stderr, 2)
    os.close(stderr)
