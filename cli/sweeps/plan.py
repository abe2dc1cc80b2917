"""`--dry-run`: the runs of a sweep, their folders and states, and how long the rest may take."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from omegaconf import DictConfig

from ttt.cli.console import Console, say_error
from ttt.cli.runs.display import span
from ttt.cli.sweeps.grid import varied
from ttt.cli.sweeps.job import read_objective
from ttt.cli.sweeps.launch import is_grid
from ttt.cli.sweeps.select import runs_of
from ttt.cli.sweeps.sweep import jobs_of, objective_of
from ttt.cli.sweeps.tuning import Tuning, key_of
from ttt.config.messages import UsageError
from ttt.run.compose import compose_run
from ttt.run.exit_codes import ExitCode
from ttt.run.recall import recall
from ttt.storage.run_folder import RunFolder

# What a status means for a sweep that is about to start.
STATES = {"done": "done", "failed": "failed before", "requeue": "to go on", "running": "running", None: "new"}


def dry_run(words: Sequence[str], *, config: DictConfig, config_dir: str | None, only: Sequence[str]) -> int:
    """List the runs of a sweep with their folders; write nothing but prepared data."""
    if not is_grid(config):
        raise UsageError("--dry-run: a search chooses its runs as it goes; nothing to show before")
    runs = runs_of(words, only=only, config_dir=config_dir)
    tuning = Tuning.read(config, typed=words, objective=objective_of(config))
    first, rest = tuning.divide(runs) if tuning else ([], runs)
    listing = Listing(len(first) + (tuning.count(rest) if tuning else len(rest)), varied(words), config_dir)
    listing.add(first)
    # What is best shows only when all runs to choose by are done.
    if tuning and listing.states.count("done") < len(first):
        listing.note(f"then {tuning.count(rest)} runs, with what is best on {tuning.typed}")
    else:
        values = [read_objective(folder, objective_of(config)) for folder in listing.folders]
        listing.add(tuning.chosen(rest, tuning.choose(first, values)) if tuning else rest)
    return listing.close(jobs=jobs_of(config))


class Listing:
    """Lines on a screen, a run each. `folders` and `states` are those of the runs so far."""

    def __init__(self, total: int, names: set[str], config_dir: str | None) -> None:
        self._console = Console(highlight=False)
        self._total, self._names, self._config_dir = total, names, config_dir
        self._wrong = 0
        self.folders: list[Path] = []
        self.states: list[str] = []
        self._trusted = [Path(config_dir)] if config_dir else []
        sys.path.extend(str(path.resolve()) for path in self._trusted)

    def note(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    def add(self, runs: Sequence[Sequence[str]]) -> None:
        """List more runs."""
        # Imported here: a refusal of the command needs no torch.
        from ttt.run.assemble import assemble

        for run in runs:
            label = " ".join(word for word in run if key_of(word) in self._names) or "run"
            head = f"[{len(self.states) + 1}/{self._total}] {label}"
            try:
                config = compose_run(run, config_dir=self._config_dir)
                place = recall(config, trusted=self._trusted) or assemble(config, trusted=self._trusted).info
            except ValueError as error:
                self.states.append("refused")
                self.folders.append(Path())
                self.note(f"{head}: {error}")
                continue
            folder = place.folder
            state = STATES[RunFolder(folder).status().get("status")]
            # Runs in one folder are one run: two combinations differ in nothing that counts.
            if folder in self.folders:
                self._wrong += 1
                state = f"the same folder as [{self.folders.index(folder) + 1}]"
            self.states.append(state)
            self.folders.append(folder)
            self.note(f"{head}: {folder} ({state})")

    def close(self, *, jobs: int) -> int:
        """Sum up; return the exit code."""
        refused, done = self.states.count("refused"), self.states.count("done")
        left = self._total - done - self._wrong - refused
        estimate = self._estimate(left, jobs=jobs)
        if estimate:
            self.note(estimate)
        self.note(f"{self._total} runs: {done} done, {left} to do")
        if self._wrong:
            print(f"ttt-run: {self._wrong} of {self._total} combinations have the folder of another: they differ in "
                  "nothing that determines the numbers", file=sys.stderr)  # fmt: skip
        if refused:
            say_error(f"ttt-run: {refused} of {self._total} combinations do not fit together")
        return ExitCode.USAGE if self._wrong or refused else ExitCode.DONE

    def _estimate(self, left: int, *, jobs: int) -> str:
        """How long what is left takes, if each run takes as long as finished runs of its method.

        Empty where no run of any method has finished. A method is the folder of its runs.
        """
        seconds: dict[Path, list[float]] = {}
        for method in {folder.parent for folder in self.folders if folder.name}:
            statuses = [RunFolder(run).status() for run in sorted(method.glob("*")) if run.is_dir()]
            took = [float(status["seconds"]) for status in statuses if status.get("status") == "done"]
            if took:
                seconds[method] = took
        if not seconds or not left:
            return ""
        every = [value for took in seconds.values() for value in took]
        waiting = [
            folder.parent
            for folder, state in zip(self.folders, self.states, strict=True)
            if state in STATES.values() and state != "done"
        ]
        # Runs whose settings are still to be chosen are not listed yet; they take the mean.
        total = sum(fmean(seconds.get(method, every)) for method in waiting) + (left - len(waiting)) * fmean(every)
        return (
            f"about {span(total)} of computing, judged by {len(every)} finished runs; {span(total / min(jobs, left))} "
            f"with {min(jobs, left)} at a time"
        )
