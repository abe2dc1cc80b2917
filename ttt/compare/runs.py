"""Finished runs read back from their folders: results, config and costs and nothing heavier; a thousand in seconds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttt.results import catalogue
from ttt.results.results import Results
from ttt.storage.read import flatten, read_config, read_costs, read_json, read_results


@dataclass(frozen=True)
class Run:
    """A finished run: its flat config without what does not determine numbers, its results, what it took."""

    folder: Path
    seed: int
    config: Mapping[str, Any]
    costs: Mapping[str, float]
    results: Results

    def names(self) -> list[str]:
        """Every metric that was measured, and the costs."""
        return [*catalogue.names(self.results), *self.costs]

    def metric(self, name: str) -> float:
        """A metric by today's definition, not by that of the day of the run; NaN where it was not measured."""
        return self.costs[name] if name in self.costs else catalogue.metric(self.results, name)


@dataclass(frozen=True)
class RunSearch:
    """What lies below some paths: folders of finished runs, and of others with the status that they say."""

    done: Sequence[Path]
    unfinished: Mapping[Path, str]


def find_runs(paths: Iterable[str]) -> RunSearch:
    """Every run at or below `paths`, which may hold * and **. Raises ValueError for a path that matches nothing."""
    done: set[Path] = set()
    unfinished: dict[Path, str] = {}
    for typed in paths:
        for folder, files in (run for path in _matches(typed) for run in _run_folders(path)):
            if "results.json" in files:
                done.add(folder)
            else:
                unfinished[folder] = str(read_json(folder / "status.json").get("status", "unknown"))
    return RunSearch(sorted(done), dict(sorted(unfinished.items())))


def _run_folders(path: Path) -> Iterator[tuple[Path, Sequence[str]]]:
    for folder, below, files in os.walk(path):
        if "results.json" in files or "status.json" in files:
            # Do not look for runs inside a run: it holds checkpoints, plots and a tracker's files.
            below.clear()
            yield Path(folder), files


def _matches(typed: str) -> list[Path]:
    path = Path(typed).expanduser()
    if path.exists():
        return [path]
    root = Path(path.anchor)
    matches = sorted(root.glob(str(path.relative_to(root)))) if any(c in typed for c in "*?[") else []
    if not matches:
        raise ValueError(f"{typed}: no such file or folder")
    return matches


def read_run(folder: Path) -> Run:
    """A finished run. Raises ValueError naming a file that is missing or cut short."""
    config = read_config(folder)
    seed = config["seed"]
    if config["base"]["name"] == "none":
        # Without a base its seed changes nothing: it must not set runs apart.
        del config["base"]["seed"]
    return Run(folder, seed, flatten(config), read_costs(folder), read_results(folder))
