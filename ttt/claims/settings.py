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

# Runs that differ in one of these sections saw other problems, or began elsewhere.
SAME = ("source", "task", "base", "model")
# Of these, the prompt that the learner begins with: the problems are equal.
PROMPT = "task.prompt"
# Settings that say how a task is learned.
LEARNED_BY = ("adapter.", "objective.", "optimizer.", "strategy.", PROMPT)
# Keys that the words of every setting begin with.
LEADING = ("source.name", "task.ops", "task.num_tasks", "task.steps_per_task")


@dataclass(frozen=True)
class Method:
    """Runs of one method, by the seeds of the run and of its base: methods are paired by both."""

    group: Group
    runs: Mapping[tuple[int, object], Run]

    @property
    def name(self) -> str:
        """The keys that set the method apart; its adapter and strategy if it stands alone."""
        return name_of(self._label or {key: self.value(key) for key in ("adapter.name", "strategy.name")})

    def beside(self, other: Method) -> str:
        """Return the name without the keys in which `other` agrees."""
        apart = {key: value for key, value in self._label.items() if other.value(key) != value}
        return name_of(apart) if apart else self.name

    @property
    def _label(self) -> dict[str, Any]:
        # A group's label is empty at keys that its method does not have.
        return {key: value for key, value in self.group.label.items() if value != ""}

    def value(self, key: str) -> Any:
        """Return the method's value at a config key, None if it has no such key."""
        return self.group.runs[0].config.get(key)

    @property
    def is_prompted(self) -> bool:
        return self.value("adapter.name") in PROMPTED

    @property
    def is_plain(self) -> bool:
        """Does it learn on from task to task, from rewards?"""
        return bool(self.value("strategy.name") == "naive" and self.value("objective.learn_from") == "reward")

    @property
    def is_alone(self) -> bool:
        """Does it learn without prompts, from rewards and nothing else: a baseline?"""
        return self.is_plain and self.value("adapter.name") == "none" and not self.is_control

    @property
    def is_control(self) -> bool:
        """Does it learn without a search, and knows more: right answers, or its task?"""
        return self.imitates or self.value(PROMPT) == "rule"

    @property
    def imitates(self) -> bool:
        return self.value("objective.learn_from") in ("answers", "reward_and_answers")

    @property
    def is_shown_answers(self) -> bool:
        """Does its search for prompts read right answers?"""
        return self.value("adapter.proposer") in ("informed", "callable")

    @property
    def first_alone(self) -> bool:
        """Are there two tasks, of which only the first is learned with prompts?"""
        # Prompts that reset at the second task and ran out of search rounds are gone by then.
        is_once = self.value("adapter.reset") == "task" and self.value("objective.cycle.rounds") is not None
        return self.is_prompted and self.value("task.num_tasks") == 2 and is_once

    def teaches_as(self, other: Method) -> bool:
        """Do both learn later tasks in the same way?

        A later task that is learned without prompts is learned as with adapter=none.
        """
        if other.first_alone != self.first_alone and self.value("adapter.name") != "none":
            return False
        free = ("strategy.", "adapter.", "objective.cycle.") if other.first_alone else ("strategy.", "adapter.reset")
        ours, theirs = self.group.runs[0].config, other.group.runs[0].config
        keys = [key for key in {*ours, *theirs} if key.startswith(LEARNED_BY) and not key.startswith(free)]
        return all(ours.get(key) == theirs.get(key) for key in keys)

    def pairs(self, other: Method) -> list[tuple[Run, Run]]:
        """Return the runs of both methods that share the seeds of run and base."""
        return [(run, other.runs[seeds]) for seeds, run in self.runs.items() if seeds in other.runs]


@dataclass(frozen=True)
class Setting:
    """Methods on the same tasks, bases and model: `same` is their common config, in `words`."""

    same: Mapping[str, Any]
    words: str
    methods: Sequence[Method]

    def rival(self, method: Method) -> Method | None:
        """Return the strongest baseline.

        Among the prompt-free methods that share the most seeds with `method`, it is the one that
        learned most on those seeds.
        """
        plain = [other for other in self.methods if other.is_alone]
        # Shared seeds count first: a difference over few seeds resolves nothing.
        most = max((len(method.pairs(other)) for other in plain), default=0)
        if not most:
            return None
        candidates = (other for other in plain if len(method.pairs(other)) == most)
        return max(candidates, key=lambda other: _learned(method, other))

    def imitators(self, method: Method) -> Iterator[Method]:
        """Yield the methods whose slow weights imitate what the search of `method` is shown."""
        if method.is_plain and method.is_shown_answers:
            yield from (other for other in self.methods if other.imitates and method.pairs(other))

    def fresh(self, method: Method, settings: Sequence[Setting]) -> Iterator[Method]:
        """Yield the methods that learn each task from the base, otherwise as `method` does.

        Such a method has to know where a task begins, while others need not: its setting may differ
        in task.announced.
        """
        for setting in settings:
            if _but_announced(setting) == _but_announced(self):
                anew = (other for other in setting.methods if other.value("strategy.name") == "independent")
                yield from (other for other in anew if other.pairs(method) and other.teaches_as(method))


def settings_of(runs: Sequence[Run]) -> list[Setting]:
    """Return the settings of the runs with objective=reward.

    The base seed sets no method apart: base.seed is dropped from the configs. Raises ValueError for
    a method that ran one seed on several bases, because the seed is the unit.
    """
    # Seeds are noted before base.seed is dropped from the configs.
    seeds = {run.folder: (run.seed, run.config.get("base.seed")) for run in runs}
    members: dict[str, list[Run]] = {}
    for run in _without_base_seed(runs):
        members.setdefault(json.dumps(_same(run.config), sort_keys=True), []).append(run)
    same = {key: _same(group[0].config) for key, group in members.items()}
    keys = {key for config in same.values() for key in config}
    telling = {key for key in keys if len({show(config.get(key)) for config in same.values()}) > 1}
    return [
        Setting(
            same[key],
            _words(same[key], telling),
            [Method(group, {seeds[run.folder]: run for run in group.runs}) for group in group_runs(group_members)],
        )
        for key, group_members in sorted(members.items())
    ]


def _without_base_seed(runs: Sequence[Run]) -> Iterator[Run]:
    bases: dict[str, Any] = {}
    for run in runs:
        if run.config.get("objective.name") != "reward":
            continue
        config = {key: value for key, value in run.config.items() if key != "base.seed"}
        base = run.config.get("base.seed")
        first = bases.setdefault(json.dumps([run.seed, config], sort_keys=True), base)
        if first != base:
            raise ValueError(
                f"--claims: seed {run.seed} of one method ran on the bases {first} and {base}; a seed "
                f"counts once: --where base.seed={first}"
            )
        yield replace(run, config=config)


def _same(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key.split(".")[0] in SAME and key != PROMPT}


def _but_announced(setting: Setting) -> dict[str, Any]:
    return {key: value for key, value in setting.same.items() if key != "task.announced"}


def _words(same: Mapping[str, Any], telling: set[str]) -> str:
    """Name the tasks, and what else tells this setting from others (keys in `telling`)."""
    source, ops, tasks, steps = (same.get(key) for key in LEADING)
    # Other keys of the source and the task follow from their names.
    others = [
        f"{key}={show(same[key])}"
        for key in sorted(telling - {*LEADING})
        if key.split(".")[0] in ("base", "model") and key in same
    ]
    return ", ".join([f"{source} ops={ops} {tasks} x {steps} steps", *others])


def _learned(method: Method, other: Method) -> float:
    """How much `other` learned on the seeds that it shares with `method`."""
    return float(np.mean([theirs.metric("slow/success/avg_learning") for _, theirs in method.pairs(other)]))
