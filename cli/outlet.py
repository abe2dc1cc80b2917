"""What happens when whoever reads the output of a command, such as `head`, wants no more."""

from __future__ import annotations

import io
import os
import stat
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Outlet(io.FileIO):
    """A pipe to write to; once its reader has closed it, everything goes nowhere.

    `stops`: raise the BrokenPipeError all the same, once.
    """

    def __init__(self, descriptor: int, *, stops: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._stops = stops

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            # Python writes once more when it closes the stream, and would complain again.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if self._stops:
                raise
            return super().write(data)


def outlast_readers(*, stops: bool = False) -> None:
    """Let the command go on to its end, and end as it would, when a pipe that it prints to closes.

    A run must not fail because nobody looks at it any more. `stops`: for a command without an end,
    which is to raise BrokenPipeError. Signals stay as they are: sockets close, too.
    """
    sys.stdout = _outlasting(sys.stdout, stops=stops)
    sys.stderr = _outlasting(sys.stderr, stops=stops)


def _outlasting(stream: TextIO, *, stops: bool) -> TextIO:
    """The stream itself where it is no pipe: a terminal, a file, or a notebook's own."""
    try:
        descriptor = stream.fileno()
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except (AttributeError, OSError):
        return stream
    if not is_pipe or not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    outlet = Outlet(descriptor, stops=stops)
    return io.TextIOWrapper(
        # Under PYTHONUNBUFFERED there is no buffer, as in Python's own stream.
        outlet if stream.write_through else io.BufferedWriter(outlet),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
