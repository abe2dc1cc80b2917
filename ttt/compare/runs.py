"""Finished runs read back from their folders: results and config and nothing heavier; a thousand load in seconds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from ttt.config.identity import NOT_IDENTITY, NOT_IDENTITY_TRAINER
from ttt.results.results import Results, from_json

COSTS = (
    "training_tokens_per_second",
    "seconds",
    "evaluation_seconds",
    "strategy_seconds_between_tasks",
    "peak_memory_bytes",
    "strategy_memory_bytes",
    "fast_state_numbers",
)


@dataclass(frozen=True)
class Run:
    """A finished run: its flat config without what does not determine numbers, its results, what it cost."""

    folder: Path
    seed: int
    config: Mapping[str, Any]
    costs: Mapping[str, float]
    results: Results

    def names(self) -> list[str]:
        return [*self.results.names(), *self.costs]

    def metric(self, name: str) -> float:
        """From R, by today's definitions, not by those of the day of the run; NaN where it was not measured."""
        if name.startswith("cost/"):
            return self.costs.get(name, float("nan"))
        known = (*self.results.modes, "fast_gain", "split")
        return self.results.metric(name) if name.split("/")[0] in known else float("nan")


@dataclass(frozen=True)
class Found:
    """Folders of finished runs, and those of runs that are not, with the word that their status says."""

    done: Sequence[Path]
    unfinished: Mapping[Path, str]


def find(paths: Iterable[str]) -> Found:
    """Every run at or below `paths`, which may hold * and **. Raises ValueError for a path that matches nothing."""
    done: set[Path] = set()
    unfinished: dict[Path, str] = {}
    for typed in paths:
        for folder, files in (found for path in _matches(typed) for found in _run_folders(path)):
            if "results.json" in files:
                done.add(folder)
            else:
                unfinished[folder] = str(read_json(folder / "status.json").get("status", "unknown"))
    return Found(sorted(done), dict(sorted(unfinished.items())))


def _run_folders(path: Path) -> Iterator[tuple[Path, Sequence[str]]]:
    for folder, below, files in os.walk(path):
        if "results.json" in files or "status.json" in files:
            # What lies in a run's folder is its own: checkpoints, plots, a tracker's files.
            below.clear()
            yield Path(folder), files


def _matches(typed: str) -> list[Path]:
    path = Path(typed).expanduser()
    if path.exists():
        return [path]
    root = Path(path.anchor)
    found = sorted(root.glob(str(path.relative_to(root)))) if any(c in typed for c in "*?[") else []
    if not found:
        raise ValueError(f"{typed}: no such file or folder")
    return found


def read_run(folder: Path) -> Run:
    """Raises ValueError naming the file that is missing or cut short."""
    results, config = read_results(folder), read_config(folder)
    if config["base"]["name"] == "none":
        # Without a base its seed is the run's own.
        del config["base"]["seed"]
    return Run(
        folder=folder,
        seed=config["seed"],
        config=flatten(config),
        costs=read_costs(folder),
        results=results,
    )


def read_results(folder: Path) -> Results:
    """Raises ValueError naming the file that is cut short, or of another version."""
    file = folder / "results.json"
    content = read_json(file)
    try:
        return from_json(content)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.yaml as it was resolved."""
    file = folder / "config.yaml"
    try:
        config = yaml.load(file.read_bytes(), Loader=_loader())
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file}: holds no config")
    return config


@cache
def _loader() -> Any:
    """Reads numbers as OmegaConf does (1e-4 is one), in C: ten times as fast."""

    class Loader(yaml.CSafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers = get_yaml_loader().yaml_implicit_resolvers

    return Loader


def read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: cut short or no JSON ({error})") from error


def read_costs(folder: Path) -> dict[str, float]:
    """What the run cost, from its status: training speed, wall time, peak memory, size of one lane's fast state."""
    file = folder / "status.json"
    status = read_json(file) if file.is_file() else {}
    return {f"cost/run/{key}": float(status[key]) for key in COSTS if key in status}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`, leaving out the seed and what does not determine numbers."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name in (*NOT_IDENTITY, "seed") or name in {f"trainer.{k}" for k in NOT_IDENTITY_TRAINER}:
            continue
        if key in ("_target_", "cache_dir"):
            continue
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat
