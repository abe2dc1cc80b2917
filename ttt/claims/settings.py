"""Which runs may be compared: methods that saw the same problems and began from equal bases."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ttt.claims.series import PROMPTED
from ttt.compare.groups import Group, group_runs, name_of
from ttt.compare.runs import Run
from ttt.config.messages import show

# Runs that differ in one of these saw other problems, or began elsewhere.
SAME = ("source", "task", "base", "model")
# Sections that say how a task is learned.
LEARNED_BY = ("adapter.", "objective.", "optimizer.", "strategy.")
# Told of every setting in words of its own.
TOLD = ("source.name", "task.ops", "task.num_tasks", "task.steps_per_task")


@dataclass(frozen=True)
class Method:
    """`runs`: by the seed of the run and that of its base, by which methods are paired."""

    group: Group
    runs: Mapping[tuple[int, object], Run]

    @property
    def name(self) -> str:
        """Where it is alone in its setting no key tells it apart."""
        return name_of(self._label or {key: self.says(key) for key in ("adapter.name", "strategy.name")})

    def beside(self, other: Method) -> str:
        """Its name without what `other` says too."""
        apart = {key: value for key, value in self._label.items() if other.says(key) != value}
        return name_of(apart) if apart else self.name

    @property
    def _label(self) -> dict[str, Any]:
        """Keys that a method does not have say nothing of it."""
        return {key: value for key, value in self.group.label.items() if value != ""}

    def says(self, key: str) -> Any:
        return self.group.runs[0].config.get(key)

    @property
    def is_prompted(self) -> bool:
        return self.says("adapter.name") in PROMPTED

    @property
    def is_plain(self) -> bool:
        """Learning on, task after task, from rewards."""
        return bool(self.says("strategy.name") == "naive" and self.says("objective.learn_from") == "reward")

    @property
    def first_alone(self) -> bool:
        """Two tasks, of which the first alone is learned with prompts."""
        is_once = self.says("adapter.reset") == "task" and self.says("objective.cycle.rounds") is not None
        return self.is_prompted and self.says("task.num_tasks") == 2 and is_once

    def teaches_as(self, other: Method) -> bool:
        """Are later tasks learned in the same way by both? One without prompts is learned as with adapter=none."""
        if other.first_alone != self.first_alone and self.says("adapter.name") != "none":
            return False
        free = ("strategy.", "adapter.", "objective.cycle.") if other.first_alone else ("strategy.", "adapter.reset")
        ours, theirs = self.group.runs[0].config, other.group.runs[0].config
        keys = [key for key in {*ours, *theirs} if key.startswith(LEARNED_BY) and not key.startswith(free)]
        return all(ours.get(key) == theirs.get(key) for key in keys)

    def pairs(self, other: Method) -> list[tuple[Run, Run]]:
        return [(run, other.runs[seeds]) for seeds, run in self.runs.items() if seeds in other.runs]


@dataclass(frozen=True)
class Setting:
    """`same`: what all runs of these methods have in common; `words` says it."""

    same: Mapping[str, Any]
    words: str
    methods: Sequence[Method]

    def rival(self, method: Method) -> Method | None:
        """Of the kinds of learning alone that ran most of the seeds of `method`, that which learned most on them."""
        alone = [one for one in self.methods if one.is_plain and one.says("adapter.name") == "none"]
        most = max((len(method.pairs(one)) for one in alone), default=0)
        if not most:
            return None
        return max((one for one in alone if len(method.pairs(one)) == most), key=lambda one: _learned(method, one))

    def fresh(self, method: Method, settings: Sequence[Setting]) -> Iterator[Method]:
        """What learns each task from the base, with the prompts that `method` has for it. It must be told where a task
        begins, others need not, and its prompts begin anew there."""
        for setting in settings:
            if _but_announced(setting) == _but_announced(self):
                anew = (one for one in setting.methods if one.says("strategy.name") == "independent")
                yield from (one for one in anew if one.pairs(method) and one.teaches_as(method))


def settings_of(runs: Sequence[Run]) -> list[Setting]:
    """Those of runs with objective=reward. Which base they began from sets no method apart. Raises ValueError for a
    method that ran a seed on several bases: the seed is the unit."""
    found: dict[str, list[Run]] = {}
    bases: dict[str, Any] = {}
    seeds = {run.folder: (run.seed, run.config.get("base.seed")) for run in runs}
    for run in runs:
        if run.config.get("objective.name") == "reward":
            config = {key: value for key, value in run.config.items() if key != "base.seed"}
            base = run.config.get("base.seed")
            first = bases.setdefault(json.dumps([run.seed, config], sort_keys=True), base)
            if first != base:
                raise ValueError(f"--claims: seed {run.seed} of one method ran on the bases {first} and {base}; a seed "
                                 f"counts once: --where base.seed={first}")  # fmt: skip
            found.setdefault(json.dumps(_same(config), sort_keys=True), []).append(replace(run, config=config))
    commons = {key: _same(members[0].config) for key, members in found.items()}
    telling = {key for one in commons.values() for key in one if len({show(c.get(key)) for c in commons.values()}) > 1}
    return [
        Setting(
            commons[key],
            _words(commons[key], telling),
            [Method(group, {seeds[run.folder]: run for run in group.runs}) for group in group_runs(members)],
        )
        for key, members in sorted(found.items())
    ]


def _same(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key.split(".")[0] in SAME}


def _but_announced(setting: Setting) -> dict[str, Any]:
    return {key: value for key, value in setting.same.items() if key != "task.announced"}


def _words(same: Mapping[str, Any], telling: set[str]) -> str:
    """The tasks, and what else tells this setting from others."""
    source, ops, tasks, steps = (same.get(key) for key in TOLD)
    # What a source or task has of its own follows from its name.
    others = [
        f"{key}={show(same[key])}"
        for key in sorted(telling - {*TOLD})
        if key.split(".")[0] in ("base", "model") and key in same
    ]
    return ", ".join([f"{source} ops={ops} {tasks} x {steps} steps", *others])


def _learned(method: Method, other: Method) -> float:
    return float(np.mean([theirs.metric("slow/success/avg_learning") for _, theirs in method.pairs(other)]))
