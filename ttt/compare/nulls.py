"""The null of a run: the same setting without shift, which says how much of a metric is no effect.

    run    task.name=permuted-sequence   task.steps_per_task=30   adapter.name=mlp_fast   seed 3
    null   task.name=stationary          task.steps_per_task=30   adapter.name=mlp_fast   seed 3

Slow weights that go on learning what they know already still drift, and a score measured twice
differs by chance. What of a metric is there too is no effect of new tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttt.compare.runs import Run
from ttt.config.messages import show, suggest
from ttt.storage.read import flatten, read_config


@dataclass(frozen=True)
class Null:
    """What sets nulls apart from the runs that they belong to, as typed: KEY=VALUE of each."""

    words: Sequence[str]

    @property
    def typed(self) -> str:
        return " ".join(self.words)

    def conditions(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Config key -> value. `task=stationary` is about task.name, as on the command line."""
        pairs = (word.partition("=") for word in self.words)
        return {f"{key}.name" if f"{key}.name" in config else key: value for key, _, value in pairs}

    def check(self, runs: Sequence[Run]) -> None:
        """Raise ValueError for a word that is no KEY=VALUE, or a key that no run has."""
        keys = {key for run in runs for key in run.config}
        parts = {key.split(".")[0] for key in keys}
        for word in self.words:
            key, equals, value = word.partition("=")
            if not equals or not value:
                raise ValueError(f"--null {word}: must be KEY=VALUE, like task=stationary")
            if key not in keys | parts:
                part = key.split(".")[0]
                near = {other for other in keys if other.split(".")[0] == part} if "." in key else parts
                raise ValueError(f"--null {word}: no run has the key {key!r}; {suggest(key, near or parts)}")

    def is_null(self, config: Mapping[str, Any]) -> bool:
        """Is a run with this config (flat) itself without shift?"""
        return all(show(config.get(key, "")) == value for key, value in self.conditions(config).items())

    def belongs(self, null: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
        """Is `null` the config of the null of a run with `config`? Both are flat.

        They agree in the names of all parts and in every key that both have, but for those of the
        conditions. Another stream has other keys, and so has a run of an earlier version.
        """
        names = {key for key in {*null, *config} if key.endswith(".name")}
        keys = names | (null.keys() & config.keys())
        # How outputs compete is said by the stream that a run has, typed or not.
        but = {*self.conditions(config), "task.scenario"}
        return self.is_null(null) and all(null.get(key) == config.get(key) for key in keys - but)


def pair(runs: Sequence[Run], candidates: Sequence[Path], null: Null) -> dict[Path, Path]:
    """The folder of each run -> that of its null, for the runs that have one among `candidates`."""
    nulls: dict[int, list[tuple[Path, dict[str, Any]]]] = {}
    for folder in candidates:
        config = read_config(folder)
        flat = flatten(config)
        if null.is_null(flat):
            nulls.setdefault(config["seed"], []).append((folder, flat))
    pairs = {}
    for run in runs:
        # A null has the seed of its run: what chance does to a seed is then subtracted with it.
        folders = [folder for folder, config in nulls.get(run.seed, []) if null.belongs(config, run.config)]
        if folders:
            pairs[run.folder] = folders[0]
    return pairs
