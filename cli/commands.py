"""The commands of ttt, and what each is for."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import NoReturn

from ttt.config.version import VERSION

COMMANDS = {
    "ttt-run": "train a model on a stream of tasks; measure what it learns and what it forgets",
    "ttt-compare": "many runs as one table: means over seeds, intervals, paired differences",
    "ttt-report": "one run, or many, as a page",
    "ttt-probe": "look into a run or a model: causality, fast weights, documents",
    "ttt-stream": "read text that goes on with a model that learns while it reads; bits per byte over time",
    "ttt-eval": "tasks of lm-eval (RULER, multiple choice, your own), with fast weights written while reading",
    "ttt-check": "does a part of your own keep what adapters, strategies, data and models promise?",
    "ttt-bench": "what the harness and its kernels cost, measured here",
    "ttt-export": "a run's pretrained model as a Hugging Face folder",
}


def version_line() -> str:
    """What `--version` prints."""
    return f"ttt {VERSION}"


def listing() -> str:
    """What `python -m ttt` prints."""
    lines = [f"  {name:<13}{purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join([f"{version_line()}: does this model keep learning, and what does it forget?", "", *lines, "",
                      "Each explains itself with --help. From Python: import ttt; help(ttt)."])  # fmt: skip


def leave(code: int) -> NoReturn:
    """End this process, one of several, at once: all that must be written is on the disk.

    A process that ends before the others still has gloo's threads, and torch may abort it when the
    interpreter takes them down.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def ends_at_once(main: Callable[[], None]) -> Callable[[], None]:
    """`main`, and then the end of the process, if it was started for this command.

    To take down an interpreter that has loaded torch takes half a second, in which it frees what
    the system frees anyway. What asked to be called at the end is called.
    """

    @wraps(main)
    def command() -> None:
        code: object = None
        try:
            main()
        except SystemExit as stop:
            code = stop.code
            _end(code)
            raise
        _end(code)

    return command


def _end(code: object) -> None:
    # Python waits for threads that are no daemons, and prints a code that is no number.
    waits = any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())
    if isinstance(code, int | None) and not waits and _is_program():
        atexit._run_exitfuncs()
        leave(code or 0)


def _is_program() -> bool:
    """Was this process started as a command of ttt, and not as a program that calls one?"""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    name = spec.name if spec else Path(file or "").name
    return name in COMMANDS or name.startswith("ttt.cli.")
