"""`ttt-run -m`: every run of a sweep as a process of its own.

A run that fails takes no other with it; a line says so at once, and its output is in a log. Typing the
sweep again prints what is done, resumes what was interrupted, and runs what failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ProcessLauncher(Launcher):
    """Hydra's launcher interface: gets the override lists of all runs."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        jobs = self._jobs()
        folder = Path(self._config.hydra.sweep.dir).expanduser() / time.strftime("%Y%m%d-%H%M%S")
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{len(job_overrides)} runs, {jobs} at a time; their output is in {folder}", flush=True)
        numbered = list(enumerate(job_overrides, start=initial_job_idx + 1))
        with ThreadPoolExecutor(jobs) as pool:
            codes = list(pool.map(lambda job: self._run(folder, *job, total=len(numbered), jobs=jobs), numbered))
        failed = sum(code != 0 for code in codes)
        if failed:
            print(f"{failed} of {len(codes)} runs did not finish; type the sweep again to run those", file=sys.stderr)
            sys.exit(1)
        return [self._returned(code) for code in codes]

    def _jobs(self) -> int:
        jobs = self._config.sweep.jobs
        if jobs == "auto":
            on_gpu = self._config.trainer.accelerator == "cuda" or Path("/dev/nvidia0").exists()
            return 1 if on_gpu else os.cpu_count() or 1
        return int(jobs)

    def _run(self, folder: Path, number: int, overrides: Sequence[str], *, total: int, jobs: int) -> int:
        log = folder / f"{number:04d}.log"
        threads = ["trainer.threads=1"] if jobs > 1 and self._config.trainer.threads == "auto" else []
        command = [sys.executable, "-m", "ttt.cli.run", *self._config_dirs(), *overrides, *threads]
        start = time.perf_counter()
        with log.open("w") as output:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
        state = "done" if code == 0 else f"FAILED with exit code {code}: {last_line(log)}"
        print(f"[{number}/{total}] {' '.join(overrides)}: {state} ({time.perf_counter() - start:.0f} s)", flush=True)
        return code

    def _config_dirs(self) -> list[str]:
        sources = self._config.hydra.runtime.config_sources
        return [f"--config-dir={s.path}" for s in sources if s.provider == "command-line"]

    def _returned(self, code: int) -> JobReturn:
        done: Any = JobReturn()
        done.status, done.return_value = JobStatus.COMPLETED, code
        returned: JobReturn = done
        return returned


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"
