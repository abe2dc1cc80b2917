"""How a run can end: what its exit code is, and what status.json says."""

from __future__ import annotations

import contextlib
import signal
import traceback
from typing import NamedTuple

from ttt.run.exit_codes import ExitCode
from ttt.run.signals import TerminatedError
from ttt.sinks.base import first_line
from ttt.storage.files import FULL, no_room, write_bytes
from ttt.storage.run_folder import RunFolder
from ttt.training.finite import NonFiniteError
from ttt.training.saving import StoppedError


class Outcome(NamedTuple):
    """How a run ended: its exit code, what status.json says and why, and what it took.

    `where`: a line of the tracker about where to look.
    """

    code: int
    status: str
    reason: str
    numbers: dict[str, float]
    where: str | None = None


# What numpy, torch and CUDA say of sizes for which there is no memory, or no number.
TOO_LARGE = ("can't allocate memory", "out of memory", "Unable to allocate", "Overflow when unpacking", "too large")


class LostError(RuntimeError):
    """Another process of this run ended first, and says why."""


def ending(error: BaseException, folder: RunFolder, *, rank: int) -> Outcome:
    """What a run comes to that this error has ended."""
    # Special errors come before general ones: a question further down may fit them as well.
    if isinstance(error, KeyboardInterrupt):
        return Outcome(ExitCode.INTERRUPTED, "requeue", "interrupted", {})
    if isinstance(error, StoppedError):
        code = ExitCode.INTERRUPTED if error.number == signal.SIGINT else ExitCode.REQUEUE
        return Outcome(code, "requeue", f"signal {signal.Signals(error.number).name}", {})
    if isinstance(error, TerminatedError):
        name = signal.Signals(error.number).name
        # A shell reports a process that a signal ended as 128 plus the signal's number.
        return Outcome(128 + error.number, "requeue", f"a second signal ({name})", {})
    if isinstance(error, LostError):
        return Outcome(ExitCode.REQUEUE, "requeue", str(error), {})
    if isinstance(error, NonFiniteError):
        return Outcome(ExitCode.DIVERGED, "failed", str(error), {})
    if is_too_large(error):
        return Outcome(ExitCode.USAGE, "failed", too_large(error), {})
    if isinstance(error, OSError) and error.errno in FULL:
        return Outcome(ExitCode.DISK, "failed", no_room(error, place=folder.path), {})
    # What lies inside the run's folder is no data: an
    # error there is a bug, and so is one without a name.
    if isinstance(error, OSError) and not str(error.filename or folder.path).startswith(str(folder.path)):
        return Outcome(ExitCode.DATA, "failed", f"data cannot be read: {first_line(error)}", {})
    return _bug(folder, error, rank=rank)


def is_too_large(error: BaseException) -> bool:
    """Were the sizes that were typed more than this machine can hold?"""
    if isinstance(error, MemoryError | OverflowError):
        return True
    # Torch has no class of errors for these: only their text tells them apart.
    return isinstance(error, RuntimeError | TypeError) and any(words in str(error) for words in TOO_LARGE)


def too_large(error: BaseException) -> str:
    """The line for sizes that do not fit."""
    return (
        f"too large for the memory here: {first_line(error)[:200]}; smaller are model.width, model.mlp_width, "
        "task.seq_len and task.batch_size (trainer.accumulate=N reads a batch in N parts)"
    )


def _bug(folder: RunFolder, error: BaseException, *, rank: int) -> Outcome:
    log = folder.error_log(rank)
    # A log that cannot be written must not hide the error that it was for.
    with contextlib.suppress(OSError):
        write_bytes(log, "".join(traceback.format_exception(error)).encode())
    return Outcome(ExitCode.BUG, "failed", f"{type(error).__name__}: {first_line(error)} (see {log.name})", {})
