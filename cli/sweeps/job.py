"""One run of a sweep: a process of its own, its output in NNNN.log, its state in NNNN.json beside
that.

Whatever starts it (a thread here, joblib, SLURM, Ray), these files tell `ttt.cli.sweeps.overview`
how it goes. A process for each run also keeps runs apart where a launcher reuses its workers: no
thread count or random state is left over.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ttt.cli.announce import read_announcement
from ttt.cli.sweeps.child import start_child
from ttt.config.messages import UsageError
from ttt.run.compose import compose_run
from ttt.run.exit_codes import STOPPED, ExitCode
from ttt.run.recall import Place, recall_done
from ttt.storage.files import write_json
from ttt.storage.lock import alive
from ttt.storage.run_folder import RunFolder

COMPOSING = threading.Lock()


@dataclass(frozen=True)
class Job:
    """`status`: running | done | failed | stopped (Ctrl-C, SIGTERM) | skipped (too many others had
    failed).

    `before`: it was done already, so its seconds say nothing about those of others; perhaps
    `is_of_other_code`.
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
    is_of_other_code: bool = False
    objective: float | None = None

    @property
    def ended(self) -> bool:
        return self.status != "running"


@dataclass(frozen=True)
class Starter:
    """What all runs of a sweep have in common.

    A Hydra launcher calls it as the job and gets the objective.
    """

    folder: Path
    cwd: Path
    extra: Sequence[str]
    max_failures: int | None
    objective: str
    config_dir: str | None = None

    def __call__(self, config: Any) -> float | None:
        """Run the job that Hydra has in mind; return its objective, None for a run that failed."""
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
        before = self._done_before(overrides) if warm else None
        if before is not None:
            log_file(self.folder, number).write_text(f"this run is already done: {before.folder}\n")
            announce = {"folder": str(before.folder), "before": True, "code": before.code}
            write_json(announcement_file(self.folder, number), announce)
            return self._write(self._ended(job, ExitCode.DONE))
        child = start_child(
            [*self.extra, *overrides],
            cwd=self.cwd,
            log=log_file(self.folder, number),
            announcement=announcement_file(self.folder, number),
            warm=warm,
        )
        # This is written before the wait: a sweep that is stopped has to know whom to stop.
        job = self._write(replace(job, pid=child.pid))
        try:
            child.wait()
        except SystemExit:
            # A launcher told to stop (submitit before a time limit) must not leave the run behind.
            os.kill(child.pid, signal.SIGTERM)
            raise
        finally:
            job = self._write(self._ended(job, child.wait()))
        return job

    def _done_before(self, overrides: Sequence[str]) -> Place | None:
        """The place of a run that is done, where that shows without a process for it."""
        try:
            # Hydra composes one config at a time.
            with COMPOSING:
                config = compose_run(overrides, config_dir=self.config_dir)
        except UsageError:
            # The process of the run says what is wrong.
            return None
        return recall_done(config, trusted=[Path(self.config_dir)] if self.config_dir else [])

    def _ended(self, job: Job, code: int) -> Job:
        """The job after its process ended; its folder says how the run went."""
        announced = read_announcement(announcement_file(self.folder, job.number))
        status = "done" if code == ExitCode.DONE else "stopped" if code in STOPPED else "failed"
        folder, before, today = (announced.get(key) for key in ("folder", "before", "code"))
        return replace(
            job,
            status=status,
            code=code,
            seconds=time.time() - job.started,
            reason="" if code == ExitCode.DONE else self._reason(job.number, announced),
            folder=folder,
            before=bool(before),
            is_of_other_code=bool(before and today) and Place(self.cwd / str(folder), str(today)).is_of_other_code,
            objective=read_objective(self.cwd / folder, self.objective) if code == ExitCode.DONE and folder else None,
        )

    def _reason(self, number: int, announced: dict[str, Any]) -> str:
        """Why a run stopped, in one line."""
        if "refused" in announced:
            return str(announced["refused"])
        if "folder" in announced:
            said = RunFolder(self.cwd / announced["folder"]).status().get("reason")
            if said:
                return str(said)
        # It died before it could say anything: the last line that it printed is all there is.
        log = log_file(self.folder, number)
        lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
        return lines[-1].strip() if lines else "no output"

    def _write(self, job: Job) -> Job:
        write_json(self.folder / f"{job.number:04d}.json", asdict(job))
        return job


def read_objective(folder: Path, objective: str) -> float | None:
    """The value of a metric of a finished run; None where it was not measured."""
    results = json.loads(RunFolder(folder).results.read_text())
    value: float | None = results["metrics"].get(objective)
    return value


def log_file(folder: Path, number: int) -> Path:
    """What the run with this number printed."""
    return folder / f"{number:04d}.log"


def announcement_file(folder: Path, number: int) -> Path:
    """Where the run with this number says which folder is its own."""
    return folder / f"run-{number:04d}.json"


def read_jobs(folder: Path, *, but: Collection[int] = ()) -> Iterator[Job]:
    """The jobs whose state lies in `folder`, without those numbered `but`."""
    for path in sorted(folder.glob("[0-9]*.json")):
        if int(path.stem) not in but:
            yield Job(**json.loads(path.read_text()))


def terminate_jobs(folder: Path, *, but: Collection[int] = ()) -> set[int]:
    """Send SIGTERM to every run of this host that has not ended, but to the pids in `but`.

    Return the pids that it was sent to.
    """
    here = socket.gethostname()
    pids = {job.pid for job in read_jobs(folder) if not job.ended and job.host == here} - set(but)
    alive_pids = {pid for pid in pids if alive(pid)}
    for pid in alive_pids:
        # SIGTERM, unlike SIGKILL, lets a run save its state before it ends.
        os.kill(pid, signal.SIGTERM)
    return alive_pids
