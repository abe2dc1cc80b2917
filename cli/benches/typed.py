"""Commands that are timed as whole processes, each typed in a folder of its own."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


def nothing(side: Side) -> None:
    """There is nothing to prepare."""


@dataclass(frozen=True)
class Job:
    """A command to time: `words` behind python.

    `prepare` is called once on each side. `is_new`: nothing of an earlier time is left. `floor`: a
    program that does what no harness can save.
    """

    bench: str
    name: str
    words: Sequence[str]
    prepare: Callable[[Side], None] = nothing
    is_new: bool = False
    floor: str = ""


@dataclass(frozen=True)
class Side:
    """Where commands are typed; `tree`: the code that they run, by default what is installed."""

    folder: Path
    tree: Path | None = None

    def prepare(self, job: Job) -> None:
        """Make the folder, and in it what the job needs."""
        self.place(job).mkdir(parents=True)
        job.prepare(Side(self.place(job), self.tree))

    def time(self, job: Job) -> Callable[[], None]:
        """A call that does the job once."""
        place = Side(self.place(job), self.tree)

        def call() -> None:
            if job.is_new:
                shutil.rmtree(place.folder / "outputs", ignore_errors=True)
            place.run(job.words)

        return call

    def place(self, job: Job) -> Path:
        """The folder of a job."""
        return self.folder / job.bench / job.name.replace(" ", "-")

    def run(self, words: Sequence[str]) -> None:
        """Run python with these words. Raises ValueError with its last line if it fails."""
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise ValueError(f"{' '.join(words[:4])}: exit code {done.returncode}: {said}")

    def _environment(self) -> dict[str, str]:
        # Compiled modules are there, as for a user, but those of another tree are not.
        here = {"TTT_CACHE": self.folder.parent / "cache", "PYTHONPYCACHEPREFIX": self.folder.parent / "compiled"}
        here |= {} if self.tree is None else {"PYTHONPATH": self.tree}
        rest = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        return rest | {key: str(path) for key, path in here.items()} | {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}


def seconds_of_children() -> float:
    """The CPU seconds of all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
