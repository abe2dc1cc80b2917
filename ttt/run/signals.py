"""SIGTERM as an exception, for commands: a library leaves the handlers of its process alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TerminatedError(BaseException):
    """SIGTERM: stop now; what the last checkpoint holds is safe."""


@contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into TerminatedError while open."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise TerminatedError
