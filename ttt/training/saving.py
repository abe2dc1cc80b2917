"""When a run saves its state inside a task, and when it stops there."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field


class StoppedError(BaseException):
    """A signal asked the run to stop, and what it had learned by then is saved or was not long ago.

    `number`: that of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def nobody() -> int | None:
    """Nobody asks to stop."""
    return None


@dataclass
class Saving:
    """After how many steps or minutes a checkpoint is due (None: never), and who asks to stop.

    `stop` returns the number of the signal that asks; while `deferred()` is open a signal only
    asks, elsewhere it ends the run at once. `sharded`: each process writes its shares.
    """

    every: int | None = None
    minutes: float | None = None
    stop: Callable[[], int | None] = nobody
    deferred: Callable[[], AbstractContextManager[None]] = nullcontext
    sharded: bool = False
    _step: int = field(default=0, init=False)
    # Nobody can set this clock: a change of the system's time delays no checkpoint.
    _since: float = field(default_factory=time.monotonic, init=False)

    def restart(self, step: int) -> None:
        """Count from here: all up to this step is saved."""
        self._step, self._since = step, time.monotonic()

    def is_due(self, step: int) -> bool:
        """Has a checkpoint been due since the last one?"""
        if self.every is not None and step - self._step >= self.every:
            return True
        return self.minutes is not None and time.monotonic() - self._since >= 60 * self.minutes
