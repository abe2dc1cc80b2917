"""Many runs as few rows: runs that differ in nothing but the seed form a group, the seed is the unit."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ttt.config import NOT_IDENTITY, NOT_IDENTITY_TRAINER
from ttt.metrics.matrix import learned
from ttt.metrics.seeds import Interval, t_interval
from ttt.results import Results, from_json

COSTS = ("training_tokens_per_second", "seconds", "peak_memory_bytes", "fast_state_numbers")


MOMENTS = ("before", "learned", "final")


@dataclass(frozen=True)
class Run:
    """A finished run: its flat config without what does not determine numbers, its metrics, its stream."""

    folder: Path
    seed: int
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    results: Results


@dataclass(frozen=True)
class Group:
    """Runs of one method; `label` holds the config keys that set it apart from the other groups."""

    label: Mapping[str, Any]
    runs: Sequence[Run]

    def interval(self, metric: str) -> Interval:
        """NaN where a run did not measure it."""
        return t_interval([run.metrics.get(metric, float("nan")) for run in self.runs])

    def per_task(self, mode: str, quantity: str, moment: str) -> list[Interval]:
        """For each task the value at one of MOMENTS: before the stream, right after learning, after the stream."""
        rows = [at_moment(run.results, mode, quantity, moment) for run in self.runs]
        return [t_interval(column) for column in zip(*rows, strict=True)]

    def paired(self, baseline: Group, metric: str) -> Interval:
        """This group minus `baseline` over the seeds that both have: what they share cancels out."""
        theirs = {run.seed: run for run in baseline.runs}
        pairs = [(run, theirs[run.seed]) for run in self.runs if run.seed in theirs]
        missing = float("nan")
        return t_interval([a.metrics.get(metric, missing) - b.metrics.get(metric, missing) for a, b in pairs])

    def matches(self, other: Group, *, but: str) -> bool:
        """Is `other` the same in every key but one? Keys that it does not have do not count."""
        return all(value in ("", self.label[key]) for key, value in other.label.items() if key != but)


def at_moment(results: Results, mode: str, quantity: str, moment: str) -> list[float]:
    """One value for each task out of R; NaN where it was not measured."""
    r = results.matrix(mode, quantity)
    picked = {"before": r[0], "learned": learned(r, results.learned_at), "final": r[-1]}[moment]
    values: list[float] = picked.tolist()
    return values


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """Every finished run at or below `paths`. Raises ValueError for a path that does not exist."""
    files: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder")
        files |= {path / "results.json"} if (path / "results.json").is_file() else set(path.rglob("results.json"))
    return [read_run(file.parent) for file in sorted(files)]


def read_run(folder: Path) -> Run:
    try:
        results = from_json(json.loads((folder / "results.json").read_text()))
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert isinstance(config, dict)
    if config["base"]["name"] == "none":
        # Without a base its seed is the run's own.
        del config["base"]["seed"]
    return Run(
        folder=folder,
        seed=config["seed"],
        config=flatten({str(k): v for k, v in config.items()}),
        # From R, by today's definitions, not by those of the day of the run.
        metrics=results.metrics() | read_costs(folder),
        results=results,
    )


def read_costs(folder: Path) -> dict[str, float]:
    """What the run cost, from its status: training speed, wall time, peak memory, size of one lane's fast state."""
    file = folder / "status.json"
    status = json.loads(file.read_text()) if file.is_file() else {}
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


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """One group a method. Raises ValueError where equal seeds saw different streams."""
    _check_streams(runs)
    runs = _without_seeds(runs)
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(run.config, sort_keys=True), []).append(run)
    keys = sorted({key for run in runs for key in run.config})
    names = [key for key in keys if key.endswith(".name") and len({run.config.get(key) for run in runs}) > 1]
    # A key that follows from the names says no more than they do: each adapter has a chunk of its own.
    told = [key for key in keys if not key.endswith(".name") and _varies(key, runs, names)]
    made = [
        Group({key: members[0].config.get(key, "") for key in [*names, *told]}, sorted(members, key=lambda r: r.seed))
        for members in groups.values()
    ]
    return sorted(made, key=lambda group: [_order(value) for value in group.label.values()])


def _without_seeds(runs: Sequence[Run]) -> Sequence[Run]:
    """A base seed that is the run's own everywhere (base.seed=${seed}) sets no method apart."""
    if any(run.config.get("base.seed", run.seed) != run.seed for run in runs):
        return runs
    return [replace(run, config={k: v for k, v in run.config.items() if k != "base.seed"}) for run in runs]


def _varies(key: str, runs: Sequence[Run], names: Sequence[str]) -> bool:
    """Does `key` tell apart runs that share all `names`, or a name that all share by what it is used with?"""
    values: dict[tuple[str, ...], set[str]] = {}
    for run in runs:
        if key in run.config:
            # The learning rate of one adapter and that of another are the same key of the same optimizer.
            own = [name for name in names if name.split(".")[0] == key.split(".")[0]]
            values.setdefault(tuple(str(run.config.get(name)) for name in own), set()).add(str(run.config[key]))
    return any(len(found) > 1 for found in values.values())


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, before words."""
    number = isinstance(value, int | float)
    return not number, float(value) if number else 0.0, str(value)


def _check_streams(runs: Sequence[Run]) -> None:
    seen: dict[tuple[Any, ...], Run] = {}
    for run in runs:
        other = seen.setdefault((run.seed, run.config.get("task.name"), run.config.get("source.name")), run)
        if other.results.fingerprints != run.results.fingerprints:
            raise ValueError(
                f"{run.folder} and {other.folder} have seed {run.seed} but saw different streams: "
                "their numbers do not compare"
            )
