"""When a run saves its state, inside tasks and between them, and when it stops."""

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
    """When a checkpoint is due after the last one, and who asks to stop.

    Anywhere after `every` steps, inside a task after `minutes` (None: never), between two tasks
    after `task_seconds`: saving each of many short tasks would take as long as learning them.
    `stop` returns the number of the signal that asks; while `deferred()` is open a signal only
    asks, elsewhere it ends the run at once. `sharded`: each process writes its shares.
    """

    every: int | None = None
    minutes: float | None = None
    task_seconds: float = 0.0
    stop: Callable[[], int | None] = nobody
    deferred: Callable[[], AbstractContextManager[None]] = nullcontext
    sharded: bool = False
    _step: int = field(default=0, init=False)
    # Nobody can set this clock: a change of the system's time delays no checkpoint.
    _since: float = field(default_factory=time.monotonic, init=False)

    def restart(self, step: int) -> None:
        """Count from here: all up to this step is saved."""
        self._step, self._since = step, time.monotonic()

    def is_due(self, step: int, *, inside_task: bool = True) -> bool:
        """Has a checkpoint been due since the last one?"""
        seconds = time.monotonic() - self._since
        if self.every is not None and step - self._step >= self.every:
            return True
        if not inside_task:
            return seconds >= self.task_seconds
        return self.minutes is not None and seconds >= 60 * self.minutes
