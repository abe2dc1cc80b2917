"""Finished runs read back from their folders, and nothing heavy of them: a thousand in seconds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttt.results import catalogue
from ttt.results.results import Results
from ttt.storage.read import flatten, read_config, read_costs, read_json, read_results
from ttt.storage.run_folder import RunFolder


@dataclass(frozen=True)
class Run:
    """A finished run: config, costs and results.

    `config` is flat and holds only what determines numbers, so that two runs of one method differ
    in nothing but the seed.
    """

    folder: Path
    seed: int
    config: Mapping[str, Any]
    costs: Mapping[str, float]
    results: Results

    def names(self) -> list[str]:
        """Every metric that was measured, and the costs."""
        return [*catalogue.names(self.results), *self.costs]

    def metric(self, name: str) -> float:
        """A metric; NaN where it was not measured."""
        # Computed from the rows, so that runs of different days are compared by one definition.
        return self.costs[name] if name in self.costs else catalogue.metric(self.results, name)


@dataclass(frozen=True)
class RunSearch:
    """What lies below some paths: folders of finished runs, and of others with their status."""

    done: Sequence[Path]
    unfinished: Mapping[Path, str]


def find_runs(paths: Iterable[str]) -> RunSearch:
    """Every run at or below `paths`, which may hold * and **.

    Raises ValueError for a path that matches nothing.
    """
    done: set[Path] = set()
    unfinished: dict[Path, str] = {}
    for typed in paths:
        for run in (run for path in _matches(typed) for run in _run_folders(path)):
            if run.results.exists():
                done.add(run.path)
            else:
                unfinished[run.path] = str(read_json(run.status_file).get("status", "unknown"))
    return RunSearch(sorted(done), dict(sorted(unfinished.items())))


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
        raise ValueError(f"{typed}: no such file or folder")
    return matches


def read_run(folder: Path) -> Run:
    """A finished run. Raises ValueError naming a file that is missing or cut short."""
    config = read_config(folder)
    return Run(folder, config["seed"], flatten(config), read_costs(folder), read_results(folder))
