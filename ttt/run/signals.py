"""Signals that ask a command to stop; a library leaves the handlers of its process alone.

first signal     inside `deferred`: the run saves where it next comes to rest, and ends there
                 elsewhere: the run ends at once
GRACE later      it was not at rest in time: the run ends, and its last checkpoint counts
second signal    the run ends at once
third signal     the process ends without another word
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ttt.training.saving import StoppedError

# Seconds from a signal until what does not come to rest (an evaluation) is given up. Schedulers
# give 30 and more before they kill.
GRACE = 20.0
# Not all of them are known everywhere.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


class TerminatedError(BaseException):
    """Stop now; what the last checkpoint holds is safe. `number`: that of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Stop:
    """What the signals of this process have asked for; there is one for each process."""

    def __init__(self) -> None:
        self.is_deferred = False
        self.begin()

    def begin(self) -> None:
        """Forget what was heard; this process is the one that hears."""
        self.pid, self.count, self.number = os.getpid(), 0, 0

    def heard(self, number: int, frame: FrameType | None) -> None:
        # Processes that prepare batches inherit the handler, and have nothing to save.
        if os.getpid() != self.pid:
            return
        self.count += 1
        if self.count > 2:
            # `finally` blocks and exit handlers do not run here: one of them may be what hangs.
            os._exit(128 + number)
        if self.count == 2:
            _set_alarm(0)
            raise KeyboardInterrupt if number == signal.SIGINT else TerminatedError(number)
        self.number = number
        if not self.is_deferred:
            raise KeyboardInterrupt if number == signal.SIGINT else StoppedError(number)
        # An evaluation may take longer than a scheduler waits: then the alarm calls `late`.
        _set_alarm(GRACE)

    def late(self, number: int, frame: FrameType | None) -> None:
        raise StoppedError(self.number)


_stop = _Stop()


def pending() -> int | None:
    """The number of a signal that waits for the run to come to rest; who asks lets it rest now."""
    if _stop.count == 0:
        return None
    _set_alarm(0)
    return _stop.number


@contextmanager
def deferred() -> Iterator[None]:
    """Let a first signal wait while open: what is inside looks at `pending`."""
    before, _stop.is_deferred = _stop.is_deferred, True
    try:
        yield
    finally:
        _stop.is_deferred = before
        _set_alarm(0)


@contextmanager
def stoppable() -> Iterator[None]:
    """Handle the signals as above while open, but for those that the process was told to ignore."""
    _stop.begin()
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    # A shell ignores Ctrl-C for what it puts into the background, nohup ignores the end of a line.
    handled = {number: _stop.heard for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    if hasattr(signal, "SIGALRM"):
        handled[signal.SIGALRM] = _stop.late
    before = {number: signal.signal(number, handler) for number, handler in handled.items()}
    try:
        yield
    finally:
        _set_alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def terminable() -> Iterator[None]:
    """Turn all but Ctrl-C into TerminatedError while open: for a command that saves nothing."""
    numbers = [getattr(signal, name) for name in NAMES[1:] if hasattr(signal, name)]
    handled = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _terminate) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise TerminatedError(number)


def _set_alarm(seconds: float) -> None:
    """Call `late` after so many seconds; 0: never."""
    # Only while `stoppable` is open there is a handler; without one an alarm would end the process.
    if hasattr(signal, "SIGALRM") and signal.getsignal(signal.SIGALRM) == _stop.late:
        signal.setitimer(signal.ITIMER_REAL, seconds)
