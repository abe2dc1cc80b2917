"""Finished runs read back from their folders, and nothing heavy of them: a thousand in seconds."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ttt.metrics.bootstrap import Over, Sample
from ttt.metrics.matrix import Matrix
from ttt.metrics.seeds import ratio_of
from ttt.results import catalogue
from ttt.results.by_task import each_task, is_mean_over_tasks, is_of_tasks, on_tasks, ratio_parts
from ttt.results.results import Results
from ttt.storage.absent import path_meant
from ttt.storage.read import flatten, read_costs, read_results, shared_config
from ttt.storage.run_folder import RunFolder
from ttt.storage.whole import read_object

# Sweeps have a folder each in this one, with a file NNNN.json for each of their jobs.
SWEEPS = "sweeps"


@dataclass(frozen=True)
class Run:
    """A finished run: config, costs and results.

    `config` is flat and holds only what determines numbers, so that two runs of one method differ
    in nothing but the seed. What metrics are taken of: `tasks`, or all of them; summarised `over`
    tasks; minus the same of a run without shift, its `null`. `base`: the seed of the base, where
    runs on several bases are one method.
    """

    folder: Path
    seed: int
    config: Mapping[str, Any]
    costs: Mapping[str, float]
    results: Results
    tasks: Sequence[int] | None = None
    over: Over = "mean"
    null: Run | None = None
    base: Hashable = None
    # A table asks for the same few numbers again and again.
    _values: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    _parts: dict[str, Matrix] = field(default_factory=dict, init=False, repr=False, compare=False)
    _samples: dict[str, Sample] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def unit(self) -> tuple[Hashable, int]:
        """What tells the runs of a method apart; runs of two methods are paired by it."""
        return self.base, self.seed

    def names(self) -> list[str]:
        """Every metric that was measured, and the costs."""
        return [*catalogue.names(self.results), *self.costs]

    def metric(self, name: str) -> float:
        """A metric; NaN where it was not measured."""
        if name not in self._values:
            self._values[name] = self._value(name)
        return self._values[name]

    def _value(self, name: str) -> float:
        if name in self.costs:
            return self.costs[name]
        if self._is_plain:
            # Computed from the rows, so that runs of different days are compared by one definition.
            return catalogue.metric(self.results, name)
        # [None] makes a sample of this run alone, [1, 2].
        return ratio_of(self.sample(name).value()[None]) if self.is_about(name) else math.nan

    def ratio_parts(self, name: str) -> Matrix:
        """Numerator and denominator of a ratio [2]."""
        if name not in self._parts:
            plain = self._is_plain
            self._parts[name] = ratio_parts(self.results, name) if plain else self.sample(name).value()
        return self._parts[name]

    @property
    def _is_plain(self) -> bool:
        """Is a metric taken of all tasks at once, as its definition has it?"""
        return self.tasks is None and self.over == "mean" and self.null is None

    def sample(self, name: str) -> Sample:
        """The metric as a sample over tasks."""
        if name not in self._samples:
            self._samples[name] = self._sample(name)
        return self._samples[name]

    def _sample(self, name: str) -> Sample:
        null = None if self.null is None or name in self.costs else self.null._pairs(name)
        if null is not None and catalogue.find(name).parts is None:
            # What is subtracted has a denominator only where the metric is a ratio.
            null[:, 1] = 0
        return Sample(self.base, self._pairs(name), null, self.over)

    def is_about(self, name: str) -> bool:
        """Does the metric count any task of a choice of tasks?"""
        return self.tasks is None or len(self._pairs(name)) > 0

    def _pairs(self, name: str) -> Matrix:
        """A numerator and a denominator for each task that the metric counts: [J, 2].

        One pair for all of them, if the metric is no mean over tasks.
        """
        tasks = range(len(self.results.tasks)) if self.tasks is None else self.tasks
        if name not in self.costs and is_mean_over_tasks(name):
            pairs = each_task(self.results, name, tasks)
            # Of a stream of one task nothing can be forgotten, which is a number that is missing.
            return pairs if len(pairs) or self.tasks is not None else np.array([[math.nan, 1.0]])
        if name not in self.costs and self.tasks is not None and is_of_tasks(name):
            return np.array([[on_tasks(self.results, name, tasks), 1.0]])
        return np.array([[self.costs[name] if name in self.costs else catalogue.metric(self.results, name), 1.0]])


@dataclass(frozen=True)
class RunSearch:
    """What lies below some paths: folders of finished runs, and of others with their status."""

    done: Sequence[Path]
    unfinished: Mapping[Path, str]


def find_runs(paths: Iterable[str]) -> RunSearch:
    """Every run at or below `paths`, which may hold * and **; of a folder of sweeps its runs.

    Raises ValueError for a path that matches nothing.
    """
    done: set[Path] = set()
    unfinished: dict[Path, str] = {}
    for typed in paths:
        for run in (run for path in _matches(typed) for top in _tops(path) for run in _run_folders(top)):
            if run.results.exists():
                done.add(run.path)
            else:
                unfinished[run.path] = str(run.status().get("status", "unknown"))
    return RunSearch(sorted(done), dict(sorted(unfinished.items())))


def _tops(path: Path) -> list[Path]:
    """Where to look for the runs of a path: in it, or where the runs of a sweep lie."""
    sweeps = sorted(path.glob("*/")) if path.name == SWEEPS else [path] if path.parent.name == SWEEPS else []
    folders = {_run_of_job(job, sweep) for sweep in sweeps for job in sorted(sweep.glob("[0-9]*.json"))}
    return sorted(folder for folder in folders if folder and folder.is_dir()) or [path]


def _run_of_job(job: Path, sweep: Path) -> Path | None:
    """The folder of a run by the file of its job; None for one that did not get so far."""
    folder = read_object(job, {}).get("folder")
    if not folder:
        return None
    # The sweep lies beside its runs, and a job names its folder from where the sweep was started:
    # what counts is TASK/METHOD/SEED, also after both were moved.
    beside = sweep.parent.parent / Path(*Path(folder).parts[-3:])
    return beside if beside.is_dir() else Path(folder)


def _run_folders(path: Path) -> Iterator[RunFolder]:
    for folder, below, files in os.walk(path):
        run = RunFolder(Path(folder))
        if run.results.name in files or run.status_file.name in files:
            # Do not look for runs inside a run: it holds checkpoints, plots and a tracker's files.
            below.clear()
            yield run


def _matches(typed: str) -> list[Path]:
    path = Path(typed).expanduser()
    if path.exists():
        return [path]
    # A shell that finds no match passes the pattern on, and on Windows no shell expands any.
    root = Path(path.anchor)
    matches = sorted(root.glob(str(path.relative_to(root)))) if any(c in typed for c in "*?[") else []
    if not matches:
        raise ValueError(f"{typed}: no such file or folder{path_meant(path)}")
    return matches


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector of circular references away while many runs are read and compared.

    What files hold has no circles, and it would walk through all of it again and again: a thousand
    runs take twice as long with it.
    """
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_on:
            gc.enable()


def read_run(folder: Path) -> Run:
    """A finished run. Raises ValueError naming a file that is missing or cut short."""
    config = shared_config(folder)
    return Run(folder, config["seed"], flatten(config), read_costs(folder), read_results(folder))
