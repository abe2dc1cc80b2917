"""`ttt-run -m`: every run of a sweep as a process of its own.

A run that fails takes no other with it; a line says so at once, and its output is in a log. Typing the
sweep again skips what is done, resumes what was interrupted, and runs what failed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

INTERRUPTED = 130


@dataclass(frozen=True)
class Sweep:
    """Where logs go, how many runs at once, and what every run is started with beside its overrides."""

    folder: Path
    jobs: int
    extra: Sequence[str]

    @classmethod
    def of(cls, config: DictConfig, *, config_dir: str | None) -> Sweep:
        jobs = count_jobs(config.sweep.jobs, accelerator=config.trainer.accelerator)
        threads = ["trainer.threads=1"] if jobs > 1 and config.trainer.threads == "auto" else []
        extra = [f"--config-dir={config_dir}", *threads] if config_dir else threads
        folder = Path(config.output_dir).expanduser() / "sweeps" / time.strftime("%Y%m%d-%H%M%S")
        return cls(folder, jobs, extra)

    def run(self, overrides: Sequence[str]) -> int:
        """All combinations; returns 0 if every run is done, else 1."""
        runs = split(overrides)
        self.folder.mkdir(parents=True, exist_ok=True)
        print(f"{len(runs)} runs, {self.jobs} at a time; their output is in {self.folder}", flush=True)
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                codes = list(pool.map(lambda run: self._one(*run, total=len(runs)), enumerate(runs, start=1)))
            except KeyboardInterrupt:
                # Those that run got the signal too; those that wait must not start.
                pool.shutdown(cancel_futures=True)
                print("stopped; the same command goes on from here", file=sys.stderr)
                return INTERRUPTED
        failed = sum(code != 0 for code in codes)
        if failed:
            print(f"{failed} of {len(runs)} runs did not finish; the same command runs those again", file=sys.stderr)
        return int(failed > 0)

    def _one(self, number: int, overrides: Sequence[str], *, total: int) -> int:
        log = self.folder / f"{number:04d}.log"
        command = [sys.executable, "-m", "ttt.cli.run", *self.extra, *overrides]
        start = time.perf_counter()
        with log.open("w") as output:
            code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False).returncode
        state = "done" if code == 0 else f"FAILED with exit code {code}: {last_line(log)}"
        print(f"[{number}/{total}] {' '.join(overrides)}: {state} ({time.perf_counter() - start:.0f} s)", flush=True)
        return code


def split(overrides: Sequence[str]) -> list[list[str]]:
    """Hydra's own reading of `a=1,2 b=x,y`: one list of overrides for each combination."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [list(run) for batch in BasicSweeper.split_arguments(parsed, max_batch_size=None) for run in batch]


def count_jobs(jobs: str | int, *, accelerator: str) -> int:
    """auto: a run for each core; on a GPU one at a time."""
    if jobs != "auto":
        return int(jobs)
    on_gpu = accelerator == "cuda" or (accelerator == "auto" and Path("/dev/nvidia0").exists())
    return 1 if on_gpu else os.cpu_count() or 1


def last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no output"
