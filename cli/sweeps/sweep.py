"""`ttt-run -m`: every run of a sweep is a process of its own, started by a thread here.

A run that fails takes no other with it: a line says so at once, and its output is in a log. Typing
the sweep again skips what is done, resumes what was interrupted, and runs again what failed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ttt.cli.runs.display import EVERYTHING, Display
from ttt.cli.sweeps.grid import varied
from ttt.cli.sweeps.job import Job, Starter, terminate_jobs
from ttt.cli.sweeps.overview import INTERVAL, Overview
from ttt.cli.sweeps.select import runs_of
from ttt.cli.sweeps.tuning import Tuning, Words
from ttt.devices.cores import usable_cores
from ttt.results.tuning import Choice
from ttt.run.exit_codes import ExitCode
from ttt.run.signals import TerminatedError, terminable


@dataclass(frozen=True)
class Sweep:
    """What a sweep is run with, whoever runs it; `typed`: its overrides, without those of Hydra."""

    typed: Sequence[str]
    starter: Starter
    jobs: int
    tuning: Tuning | None = None
    only: Sequence[str] = ()
    config_dir: str | None = None
    display: Display = EVERYTHING

    @classmethod
    def of(
        cls,
        config: DictConfig,
        *,
        typed: Sequence[str],
        config_dir: str | None,
        launched: bool = False,
        only: Sequence[str] = (),
        display: Display = EVERYTHING,
    ) -> Sweep:
        """Read a sweep from its composed config.

        `launched`: a launcher of Hydra's starts the runs, perhaps several at a time whatever
        `sweep.jobs` says.
        """
        jobs = jobs_of(config)
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
            config_dir=config_dir,
        )
        words = [word for word in typed if not word.lstrip("+~").startswith("hydra")]
        tuning = None if launched else Tuning.read(config, typed=words, objective=starter.objective)
        return cls(words, starter, jobs, tuning, only, config_dir, display)

    def open(self, *, total: int) -> Overview:
        """Make the folder of logs; return what watches over it."""
        self.starter.folder.mkdir(parents=True, exist_ok=True)
        objective = self.starter.objective
        names = varied(self.typed)
        return Overview(self.starter.folder, total=total, varied=names, objective=objective, display=self.display)

    def run(self) -> int:
        """Run all combinations that were chosen; return 0 if every run is done, else 1."""
        return self.run_all(self.runs())

    def runs(self) -> list[list[str]]:
        """The overrides of each run that was chosen."""
        return runs_of(self.typed, only=self.only, config_dir=self.config_dir)

    def run_all(self, runs: Sequence[Sequence[str]]) -> int:
        """Run these lists of overrides; `typed` only says which of their words to show."""
        tuning = self.tuning
        first, rest = tuning.divide(runs) if tuning else ([], runs)
        total = len(first) + (tuning.count(rest) if tuning else len(rest))
        overview = self.open(total=total)
        overview.note(f"{total} runs, {self.jobs} at a time; their output is in {self.shown_folder}")
        try:
            # Threads are enough: each only starts a process and waits for it.
            with overview.watch(), terminable(), ThreadPoolExecutor(self.jobs) as pool:
                if tuning:
                    self._tune(pool, tuning, first, rest, overview)
                else:
                    self._all(pool, runs)
        except (KeyboardInterrupt, TerminatedError) as stop:
            overview.note("stopped; the same command goes on from here")
            return ExitCode.INTERRUPTED if isinstance(stop, KeyboardInterrupt) else ExitCode.TERMINATED
        return overview.close()

    @property
    def shown_folder(self) -> str:
        return os.path.relpath(self.starter.folder, self.starter.cwd)

    def _tune(
        self,
        pool: ThreadPoolExecutor,
        tuning: Tuning,
        first: Sequence[Sequence[str]],
        rest: Sequence[Sequence[str]],
        overview: Overview,
    ) -> None:
        """Run `first`, choose by it, then run what is chosen of `rest`; their folders say so."""
        jobs = self._all(pool, first)
        choices = tuning.choose(first, [job.objective for job in jobs])
        for method, choice in choices.items():
            overview.note(f"{overview.shown(method)}: {choice.line()}, on {tuning.typed}")
        chosen = tuning.chosen(rest, choices)
        self._record(tuning, choices, first, jobs, role="tuning")
        jobs = self._all(pool, chosen, after=len(first))
        self._record(tuning, choices, chosen, jobs, role="reporting")

    def _record(
        self,
        tuning: Tuning,
        choices: Mapping[Words, Choice],
        runs: Sequence[Sequence[str]],
        jobs: Sequence[Job],
        *,
        role: str,
    ) -> None:
        for run, job in zip(runs, jobs, strict=True):
            choice = choices.get(tuning.method(run))
            if choice is not None and job.folder and job.status == "done":
                tuning.record(self.starter.cwd / job.folder, choice, role=role)

    def _all(self, pool: ThreadPoolExecutor, runs: Sequence[Sequence[str]], *, after: int = 0) -> list[Job]:
        """Run them, numbered from `after` + 1 on."""
        futures = [pool.submit(self.starter.run, number, run) for number, run in enumerate(runs, start=after + 1)]
        try:
            return [future.result() for future in futures]
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


def jobs_of(config: DictConfig) -> int:
    """How many runs of a sweep run at a time."""
    return count_jobs(config.sweep.jobs, accelerator=config.trainer.accelerator, devices=config.trainer.devices)


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
    # A look at the file is enough: torch would have to be loaded to be asked.
    on_gpu = accelerator == "cuda" or (accelerator == "auto" and Path("/dev/nvidia0").exists())
    processes = 1 if devices == "auto" else int(devices)
    return 1 if on_gpu else max(usable_cores() // processes, 1)
