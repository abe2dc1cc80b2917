"""One run as a child process: forked from a server that has torch loaded already, or started cold.

Loading torch costs more CPU time (about 6 s) than many small runs do. The server (multiprocessing's
forkserver) loads it once a sweep. The server never computes, so that no thread, random state or
device of one run reaches another.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ttt.cli.announce import VARIABLE
from ttt.cli.process import keep_freed_memory

# Loaded before the server forks: pandas comes with the first parquet file.
PRELOADED = [
    "hydra",
    "ttt.cli.runs.screen",
    "ttt.run.assemble",
    "ttt.run.execute",
    "pandas",
    "pyarrow.parquet",
]
COMMAND = "ttt.cli.run"


class Child(Protocol):
    """A process that runs. `wait` returns its exit code, negative for a signal."""

    @property
    def pid(self) -> int: ...

    def wait(self) -> int: ...


class Forked:
    """A run forked from the server."""

    def __init__(self, arguments: Sequence[str], *, cwd: Path, log: Path, announcement: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process = context.Process(target=run_here, args=(list(arguments), cwd, log, announcement))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait(self) -> int:
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode


def start_child(arguments: Sequence[str], *, cwd: Path, log: Path, announcement: Path, warm: bool) -> Child:
    """Start `ttt-run` with `arguments` in folder `cwd`; its output goes to `log`, its folder's name
    to `announcement`.

    `warm`: fork it, where that is safe. On macOS it is not, and a launcher's worker may not have
    children of that kind.
    """
    if warm and sys.platform == "linux":
        return Forked(arguments, cwd=cwd, log=log, announcement=announcement)
    with log.open("w") as output:
        command = [sys.executable, "-m", COMMAND, *arguments]
        environment = os.environ | {VARIABLE: str(announcement)}
        return subprocess.Popen(
            command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )


def run_here(arguments: list[str], cwd: Path, log: Path, announcement: Path) -> None:
    """Be the forked process: do what `python -m ttt.cli.run` does, with everything loaded."""
    with log.open("w") as output, open(os.devnull) as nothing:
        # The file numbers are changed and not sys.stdout, so that what C libraries and
        # grandchildren print goes into the log too.
        for stream, number in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(stream.fileno(), number)
    os.chdir(cwd)
    keep_freed_memory()
    os.environ[VARIABLE] = str(announcement)
    sys.argv[:] = ["ttt-run", *arguments]
    # By name, as for a cold start: the command itself knows of sweeps; an import would be a circle.
    runpy.run_module(COMMAND, run_name="__main__")
