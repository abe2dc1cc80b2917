"""One run of a sweep: a process of its own, its output in NNNN.log, its state in NNNN.json beside that.

Whatever starts it (a thread here, joblib, SLURM, Ray), these two files tell `ttt.cli.sweeps.overview` how it goes. A process
for each run also keeps runs apart where a launcher reuses its workers: no thread count or random state is left over.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ttt.cli.sweeps.child import start
from ttt.storage.files import write_json
from ttt.storage.run_folder import alive

# Both lines are printed by ttt.cli.runs.screen.
FOLDER = re.compile(r"^files\s+(\S.*)$", re.MULTILINE)
FINISHED = re.compile(r"^results\s+(\S.*)/results\.json$", re.MULTILINE)


@dataclass(frozen=True)
class Job:
    """`status`: running | done | failed | stopped (Ctrl-C, SIGTERM) | skipped (too many others had failed).

    `before`: it was done already, so its seconds say nothing about those of others.
    """

    number: int
    overrides: list[str]
    status: str = "running"
    pid: int = 0
    host: str = field(default_factory=socket.gethostname)
    started: float = field(default_factory=time.time)
    seconds: float | None = None
    code: int | None = None
    reason: str = ""
    folder: str | None = None
    before: bool = False
    objective: float | None = None

    @property
    def ended(self) -> bool:
        return self.status != "running"


@dataclass(frozen=True)
class Starter:
    """What all runs of a sweep have in common. Called by a Hydra launcher it is the job, and returns the objective."""

    folder: Path
    cwd: Path
    extra: Sequence[str]
    max_failures: int | None
    objective: str

    def __call__(self, config: Any) -> float | None:
        """The value of the objective; None for a run that failed, which a sweeper takes for a failure too."""
        from hydra.core.hydra_config import HydraConfig

        hydra = HydraConfig.get()
        return self.run(int(hydra.job.num) + 1, list(hydra.overrides.task), warm=False).objective

    def run(self, number: int, overrides: Sequence[str], *, warm: bool = True) -> Job:
        """Start the run and wait for it; `warm` as in ttt.cli.sweeps.child."""
        job = Job(number, list(overrides))
        if self.max_failures is not None:
            failed = sum(other.status == "failed" for other in read_jobs(self.folder))
            if failed >= self.max_failures:
                return self._write(replace(job, status="skipped", reason=f"{failed} runs had failed", seconds=0.0))
        log = log_file(self.folder, number)
        child = start([*self.extra, *overrides], cwd=self.cwd, log=log, warm=warm)
        job = self._write(replace(job, pid=child.pid))
        try:
            child.wait()
        except SystemExit:
            # A launcher that is told to stop (submitit before a time limit) must not leave the run behind.
            os.kill(child.pid, signal.SIGTERM)
            raise
        finally:
            job = self._write(self._ended(job, child.wait()))
        return job

    def _ended(self, job: Job, code: int) -> Job:
        text = log_file(self.folder, job.number).read_text(errors="replace")
        status = {0: "done", 75: "stopped", 130: "stopped", 143: "stopped", -2: "stopped", -15: "stopped"}.get(
            code, "failed"
        )
        found = FOLDER.search(text) or FINISHED.search(text)
        return replace(
            job,
            status=status,
            code=code,
            seconds=time.time() - job.started,
            reason="" if code == 0 else reason(text),
            folder=found[1] if found else None,
            before=code == 0 and not FOLDER.search(text),
            objective=self._objective(found[1]) if code == 0 and found else None,
        )

    def _objective(self, folder: str) -> float | None:
        results = json.loads((self.cwd / folder / "results.json").read_text())
        value: float | None = results["metrics"].get(self.objective)
        return value

    def _write(self, job: Job) -> Job:
        write_json(self.folder / f"{job.number:04d}.json", asdict(job))
        return job


def log_file(folder: Path, number: int) -> Path:
    return folder / f"{number:04d}.log"


def read_jobs(folder: Path, *, but: Collection[int] = ()) -> Iterator[Job]:
    """The jobs whose state lies in `folder`, without those numbered `but`."""
    for path in sorted(folder.glob("[0-9]*.json")):
        if int(path.stem) not in but:
            yield Job(**json.loads(path.read_text()))


def terminate_jobs(folder: Path, *, told: Collection[int] = ()) -> set[int]:
    """SIGTERM to every run of this host that has not ended, but to those in `told`; returns whom it was sent to."""
    here = socket.gethostname()
    pids = {job.pid for job in read_jobs(folder) if not job.ended and job.host == here} - set(told)
    alive_pids = {pid for pid in pids if alive(pid)}
    for pid in alive_pids:
        os.kill(pid, signal.SIGTERM)
    return alive_pids


def reason(text: str) -> str:
    """Why a run stopped, in one line of its log: what it says itself, else the last thing it wrote."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("ttt-run: ")]
    return said[0].removeprefix("ttt-run: ").removeprefix("stopped: ") if said else lines[-1] if lines else "no output"
