"""One run as a child process: forked from a server that has torch loaded already, or started cold.

Loading torch costs more CPU time (about 6 s) than many small runs do. The server (multiprocessing's forkserver)
loads it once a sweep; it never computes, so no thread, random state or device of one run reaches another.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

# Loaded before the server forks: torch._dynamo comes with the first optimizer, pandas with the first parquet file.
PRELOADED = [
    "hydra",
    "ttt.run.execute",
    "ttt.cli.runs.screen",
    "ttt.run.assemble",
    "ttt.run.loop",
    "torch._dynamo",
    "pandas",
    "pyarrow.parquet",
]


class Child(Protocol):
    """A process that runs. `wait` returns its exit code, negative for a signal."""

    @property
    def pid(self) -> int: ...

    def wait(self) -> int: ...


class Forked:
    """A run forked from the server."""

    def __init__(self, arguments: Sequence[str], *, cwd: Path, log: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process = context.Process(target=run_here, args=(list(arguments), cwd, log))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def wait(self) -> int:
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode


def start(arguments: Sequence[str], *, cwd: Path, log: Path, warm: bool) -> Child:
    """`ttt-run` with `arguments` in folder `cwd`, its output in file `log`.

    `warm`: fork it, where that is safe. On macOS it is not, and a launcher's worker may not have children of that kind.
    """
    if warm and sys.platform == "linux":
        return Forked(arguments, cwd=cwd, log=log)
    with log.open("w") as output:
        command = [sys.executable, "-m", "ttt.cli.run", *arguments]
        return subprocess.Popen(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)


def run_here(arguments: list[str], cwd: Path, log: Path) -> None:
    """The forked process: what `python -m ttt.cli.run` does, in a process that has it loaded."""
    with log.open("w") as output, open(os.devnull) as nothing:
        for stream, number in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(stream.fileno(), number)
    os.chdir(cwd)
    sys.argv[:] = ["ttt-run", *arguments]
    from ttt.cli.run import main

    main()
