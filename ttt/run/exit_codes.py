"""How `ttt-run` ends, as other programs read it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Launchers and schedulers act on these: 75 (EX_TEMPFAIL) means start it again."""

    DONE = 0
    # Some runs of a sweep did not finish; `ttt-probe causality` saw a leak, or `ttt-check` a broken
    # promise.
    FAILED = 1
    USAGE = 2
    BUG = 70
    # A signal asked the run to stop, or another process of it was lost.
    REQUEUE = 75
    DIVERGED = 76
    DISK = 77
    # Data that the run needs is gone, or can no longer be read.
    DATA = 78
    INTERRUPTED = 130
    TERMINATED = 143


# What ends a run from outside: Ctrl-C, SIGTERM, SIGHUP and SIGUSR1.
SIGNALS = (2, 15, 1, 10)
# What these mean for a run in a sweep: it was stopped from outside and can go on. A process that a
# signal ended has the signal's number, below zero, as its exit code.
STOPPED = (ExitCode.REQUEUE, *(128 + number for number in SIGNALS), *(-number for number in SIGNALS))
