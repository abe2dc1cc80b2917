"""The command as a process of its own, forked from a server that has torch loaded.

Loading torch takes a cold process seconds of CPU time; a forked one starts at once. What a test
looks at is the same: signals, exit code, output, files. The server is the one from which a sweep
forks its runs, so that a session of pytest has one at most.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path

from ttt.cli.sweeps.child import PRELOADED

Main = Callable[[], None]


class Forked:
    """A process that runs `main` as if `argv` were typed in `folder`, with methods of Popen."""

    def __init__(
        self, main: Main, argv: Sequence[str], folder: Path, *, variables: Mapping[str, str] | None = None
    ) -> None:
        self._log = Path(tempfile.mkdtemp(prefix="ttt-forked-"))
        self._output: tuple[str, str] | None = None
        # The server keeps the environment of its own start: hand over today's.
        environment = os.environ | {"PYTHONSAFEPATH": "1", "COLUMNS": "120"} | dict(variables or {})
        context = get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process = context.Process(target=_be, args=(main, list(argv), folder, environment, self._log))
        self._process.start()
        # A test that fails midway must not leave pytest waiting for a run of hours.
        atexit.register(self._end)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _end(self) -> None:
        if self._process.exitcode is None:
            self.kill()

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Wait for the end; return stdout and stderr."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        if self._output is None:
            self._output = (self._log / "out").read_text(), (self._log / "err").read_text()
            shutil.rmtree(self._log)
        return self._output


def _be(main: Main, argv: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
    """Become the command: its output, folder, environment and signals."""
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(log / name, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[:] = argv
    # A shell ignores Ctrl-C in what it puts into the background, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main()
    finally:
        # A forked process leaves without the exit functions of a cold one.
        atexit._run_exitfuncs()
