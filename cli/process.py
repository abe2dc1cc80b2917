"""The process of a command: how its threads wait, how it keeps memory, and how it ends.

All this holds where the process was started for the command; a program that calls one, such as a
notebook, stays as it is.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import NoReturn

from ttt.cli.commands import COMMANDS

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


def in_own_process(main: Callable[[], None]) -> Callable[[], None]:
    """`main`, in a process that is prepared for it and ends as soon as it is done.

    To take down an interpreter that has loaded torch takes half a second, in which it frees what
    the system frees anyway. What asked to be called at the end is called.
    """

    @wraps(main)
    def command() -> None:
        if _is_program():
            prepare_threads()
            keep_freed_memory()
        code: object = None
        try:
            main()
        except SystemExit as stop:
            code = stop.code
            _end(code)
            raise
        _end(code)

    return command


def prepare_threads() -> None:
    """Let threads of OpenMP turn a little while they wait, and then sleep.

    Threads that spin make two of them five to ten times slower than one beside other work; asleep
    they are slow to wake between two small operations. A thousand turns bridge most such gaps
    (docs/decisions.md). The variables are read when torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def keep_freed_memory() -> None:
    """Keep up to a gibibyte of what is freed (mallopt(3)).

    glibc gives large blocks back to the system as soon as they are free, and each step has to get
    them page by page again.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    library = ctypes.CDLL(None)
    # Other C libraries of Linux have no such function.
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_THRESHOLD, 2**25)
        library.mallopt(M_TRIM_THRESHOLD, 2**30)


def leave(code: int) -> NoReturn:
    """End this process at once: all that must be written is on the disk.

    A process that ends before others of its run still has gloo's threads, and torch may abort it
    when the interpreter takes them down.
    """
    for stream in (sys.stdout, sys.stderr):
        # Where a shell has closed them there are none.
        if stream is not None:
            stream.flush()
    os._exit(code)


def _end(code: object) -> None:
    """Leave, unless Python has to do something at the end that only it can do."""
    # It waits for threads that are not daemons, and prints a code that is not a number.
    waits = any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())
    if not isinstance(code, int | None) or waits or not _is_program():
        return
    try:
        atexit._run_exitfuncs()
        _flush()
    except (OSError, ValueError):
        # Python says what could not be written.
        return
    leave(code or 0)


def _flush() -> None:
    """Write what lies in buffers: of files that nobody closed, and of C libraries."""
    for opened in gc.get_objects():
        if issubclass(type(opened), BUFFERED) and not opened.closed and opened.writable():
            opened.flush()
    if sys.platform != "win32":
        ctypes.CDLL(None).fflush(None)


def _is_program() -> bool:
    """Was this process started as a command of ttt, and not as a program that calls one?"""
    # As it was typed: a profiler or a debugger would pass for what it runs.
    words = iter(sys.orig_argv[1:])
    for word in words:
        if word in ("-X", "-W"):
            next(words, None)
        elif word == "-m":
            return next(words, "").startswith("ttt.cli.")
        elif not word.startswith("-"):
            return Path(word).name in COMMANDS
    return False
