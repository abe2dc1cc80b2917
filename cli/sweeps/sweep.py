"""`ttt-run -m`: every run of a sweep is a process of its own, started by a thread here.

A run that fails takes no other with it: a line says so at once, and its output is in a log. Typing
the sweep again skips what is done, resumes what was interrupted, and runs again what failed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ttt.cli.sweeps.grid import split, varied
from ttt.cli.sweeps.job import Starter, terminate_jobs
from ttt.cli.sweeps.overview import INTERVAL, Overview
from ttt.run.exit_codes import ExitCode
from ttt.run.signals import TerminatedError, terminable


@dataclass(frozen=True)
class Sweep:
    """What a sweep is run with, whoever runs it; `typed`: its overrides, without those of Hydra."""

    typed: Sequence[str]
    starter: Starter
    jobs: int

    @classmethod
    def of(cls, config: DictConfig, *, typed: Sequence[str], config_dir: str | None, launched: bool = False) -> Sweep:
        """Read a sweep from its composed config.

        `launched`: a launcher of Hydra's starts the runs, perhaps several at a time whatever
        `sweep.jobs` says.
        """
        jobs = count_jobs(config.sweep.jobs, accelerator=config.trainer.accelerator, devices=config.trainer.devices)
        # Several runs that each took all cores would wait for each other (docs/decisions.md).
        one_thread = (jobs > 1 or launched) and config.trainer.threads == "auto"
        extra = [f"--config-dir={Path(config_dir).resolve()}"] if config_dir else []
        # Sweeps that begin in the same second have a folder each.
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
        starter = Starter(
            folder=Path(config.output_dir).expanduser().resolve() / "sweeps" / name,
            cwd=Path.cwd(),
            extra=[*extra, "trainer.threads=1"] if one_thread else extra,
            max_failures=config.sweep.max_failures,
            objective=objective_of(config),
        )
        return cls([word for word in typed if not word.lstrip("+~").startswith("hydra")], starter, jobs)

    def open(self, *, total: int) -> Overview:
        """Make the folder of logs; return what watches over it."""
        self.starter.folder.mkdir(parents=True, exist_ok=True)
        return Overview(self.starter.folder, total=total, varied=varied(self.typed))

    def run(self) -> int:
        """Run all combinations; return 0 if every run is done, else 1."""
        runs = split(self.typed)
        overview = self.open(total=len(runs))
        overview.note(f"{len(runs)} runs, {self.jobs} at a time; their output is in {self.shown_folder}")
        try:
            with overview.watch(), terminable(), ThreadPoolExecutor(self.jobs) as pool:
                self._all(pool, runs)
        except (KeyboardInterrupt, TerminatedError) as stop:
            overview.note("stopped; the same command goes on from here")
            return ExitCode.INTERRUPTED if isinstance(stop, KeyboardInterrupt) else ExitCode.TERMINATED
        return overview.close()

    @property
    def shown_folder(self) -> str:
        return os.path.relpath(self.starter.folder, self.starter.cwd)

    def _all(self, pool: ThreadPoolExecutor, runs: Sequence[Sequence[str]]) -> None:
        futures = [pool.submit(self.starter.run, number, run) for number, run in enumerate(runs, start=1)]
        try:
            for future in futures:
                future.result()
        except BaseException as stop:
            # Runs that wait must not start. Runs that are running got the Ctrl-C of the terminal as
            # well, but a SIGTERM to this process only reached this process.
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(stop, TerminatedError):
                self._terminate(futures)
            raise

    def _terminate(self, futures: Sequence[Future[Any]]) -> None:
        """Signal every run once, until all have ended: one may be about to start."""
        signalled: set[int] = set()
        while True:
            signalled |= terminate_jobs(self.starter.folder, but=signalled)
            if not wait([future for future in futures if not future.cancelled()], timeout=INTERVAL).not_done:
                return


def objective_of(config: DictConfig) -> str:
    """The metric that a search looks for.

    auto: what is known from the task at hand alone, of the model as it is used.
    """
    metric = str(config.sweep.objective)
    quantity = "carried/success" if config.objective.name == "reward" else "fast/loss"
    return f"{quantity}/avg_learning" if metric == "auto" else metric


def count_jobs(jobs: str | int, *, accelerator: str, devices: str | int) -> int:
    """How many runs run at a time.

    auto: as many as cores allow, where a run takes one core for each of its `devices`; on a GPU
    one.
    """
    if jobs != "auto":
        return int(jobs)
    on_gpu = accelerator == "cuda" or (accelerator == "auto" and Path("/dev/nvidia0").exists())
    processes = 1 if devices == "auto" else int(devices)
    return 1 if on_gpu else max((os.cpu_count() or 1) // processes, 1)
