"""`ttt-run` on a disk that is full once the first task is saved."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest import mock

from ttt.cli.run import main


def run_on_a_full_disk() -> None:
    """Be the command; the error does not name its file, as where an open file grows."""
    flush = os.fsync

    def flush_or_fail(file: int) -> None:
        if any(Path.cwd().glob("outputs/*/*/*/checkpoints/task-0001")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(file)

    with mock.patch.object(os, "fsync", flush_or_fail):
        main()
