"""What all streams have in common: the arguments of conf/stream.yaml, and what follows from them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ttt.stream import Batch, Ints, Phase, Source, Stream, Task, mixture
from ttt.tasks.machinery.cut import HOLD_OUT, MIX, DrawnTask, Sizes, View

ONE_PASS = "one-pass"
PASSES = re.compile(r"(one|[1-9][0-9]*)-pass(es)?")
ALL = "all"
SCENARIOS = ("auto", "task", "domain", "class")
# Classes kept out of the base where held_out is auto, if the source has twice as many.
HELD_OUT = 80


@dataclass(frozen=True, kw_only=True)
class StreamSettings(ABC):
    """Arguments are explained in conf/stream.yaml; a stream's own file adds its own."""

    name: str
    scenario: str
    num_tasks: int | None
    revisits: int
    blur: float
    steps_per_task: int | str
    batch_size: int
    seq_len: int
    examples: int | None
    eval_sequences: int | str

    def __post_init__(self) -> None:
        at_least = {"num_tasks": 1, "revisits": 0, "batch_size": 1, "seq_len": 2, "examples": 1}
        for argument, least in at_least.items():
            value = getattr(self, argument)
            if value is not None and value < least:
                raise ValueError(f"task.{argument}={value}: must be at least {least}")
        if self.scenario not in SCENARIOS:
            raise ValueError(f"task.scenario={self.scenario}: must be one of {', '.join(SCENARIOS)}")
        if not 0 <= self.blur < 1:
            raise ValueError(f"task.blur={self.blur}: must be at least 0 and below 1")
        if self.blur and PASSES.fullmatch(str(self.steps_per_task)):
            raise ValueError(
                f"task.steps_per_task={self.steps_per_task}: with task.blur={self.blur} rows of other tasks take "
                "the place of its own, and no pass is whole; give a number"
            )
        for argument, words in (("steps_per_task", f"{ONE_PASS}, 4-pass, ..."), ("eval_sequences", ALL)):
            value = getattr(self, argument)
            is_word = PASSES.fullmatch(str(value)) if argument == "steps_per_task" else value == ALL
            if not is_word and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"task.{argument}={value}: must be a number of at least 1, or {words}")

    @property
    def passes(self) -> int | None:
        """How often each training piece of a task is read; None where steps are counted."""
        found = PASSES.fullmatch(str(self.steps_per_task))
        return None if found is None else 1 if found[1] == "one" else int(found[1])

    @abstractmethod
    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        """Cut `source`. Raises ValueError where it lacks what the stream needs."""

    def stream(self, source: Source, *, base: Task | None, tasks: Sequence[Task], scenario: str, seed: int) -> Stream:
        """The stream of these tasks, in the order of their phases."""
        return Stream(
            base=base,
            tasks=tasks,
            phases=self.phases(tasks, seed=seed),
            vocab_size=source.vocab_size,
            seq_len=self.seq_len,
            scenario=scenario,
            show=source.show,
            vector_size=source.vector_size,
        )

    def pick_scenario(self, *, allowed: Sequence[str], why: str) -> str:
        """What `auto` means here, the first of `allowed`, or what was typed if it is allowed."""
        if self.scenario == "auto":
            return allowed[0]
        if self.scenario not in allowed:
            raise ValueError(f"task.scenario={self.scenario}: {why}; allowed: {', '.join(allowed)}")
        return self.scenario

    def needed(self, argument: str) -> int:
        """The value of an argument for which this stream knows no default."""
        value: int | None = getattr(self, argument)
        if value is None:
            raise ValueError(f"task.{argument}=null: {self.name} needs a number")
        return value

    def length(self, source: Source) -> int:
        """Tokens of a row: as many as fit, or as `examples` take. Of vectors one, or as many as `examples`."""
        if source.vector_size is not None:
            return self.examples or 1
        if self.examples is None:
            return self.seq_len
        if source.example_len is None:
            raise ValueError(f"task.examples={self.examples}: source={source.name} is running text, without examples")
        length = self.examples * (source.example_len + 1) - 1
        if length > self.seq_len:
            raise ValueError(
                f"task.examples={self.examples}: takes {length} tokens of source={source.name}, "
                f"but task.seq_len={self.seq_len}"
            )
        return length

    def sizes(self, source: Source, classes: Ints) -> Sizes:
        length, rows = self.length(source), self.eval_sequences
        if isinstance(rows, str):
            examples = source.eval_examples(classes)
            if examples is None:
                raise ValueError(f"task.eval_sequences={ALL}: source={source.name} is running text; give a number")
            rows = -(-examples // source.per_row(length=length))
        return Sizes(batch_size=self.batch_size, length=length, eval_sequences=rows)

    def task(self, views: Sequence[View], *, name: str, key: Sequence[int]) -> DrawnTask:
        """A task of the stream, read once where `steps_per_task` says so."""
        source, one_pass = views[0].source, self.passes is not None
        sizes = self.sizes(source, views[0].classes)
        if one_pass and source.units(views[0].classes, length=sizes.length) is None:
            raise ValueError(
                f"task.steps_per_task={self.steps_per_task}: source={source.name} makes sequences as they are asked "
                "for, there is no end to them; give a number"
            )
        return DrawnTask(views, name=name, key=key, sizes=replace(sizes, one_pass=one_pass))

    def base(self, views: Sequence[View], *, base_seed: int, key: int) -> DrawnTask | None:
        """The distribution before the stream: rows at random, of one view each. None where no class is left."""
        if not views or not len(views[0].classes):
            return None
        return DrawnTask(views, name="base", key=[base_seed, key], sizes=self.sizes(views[0].source, views[0].classes))

    def steps(self, task: Task) -> int:
        if self.passes is None:
            return int(self.steps_per_task)
        assert isinstance(task, DrawnTask), "streams that draw at random refuse one-pass"
        return self.passes * task.steps_in_one_pass

    def phases(self, tasks: Sequence[Task], *, seed: int) -> list[Phase]:
        """Each task in turn, all of them again for every revisit; with `blur`, rows of the others mixed in."""
        others = max(len(tasks) - 1, 1)
        phases, steps_before = [], 0
        for place, j in enumerate(list(range(len(tasks))) * (1 + self.revisits)):
            steps, visit = self.steps(tasks[j]), place // len(tasks)
            if self.blur and len(tasks) > 1:
                weights = np.full(len(tasks), self.blur / others)
                weights[j] = 1 - self.blur
                batch = partial(self._blurred, tasks, weights, seed, steps_before)
            else:
                batch = partial(_later, tasks[j], visit * steps)
            name = tasks[j].name + (f" (visit {visit + 1})" if visit else "")
            phases.append(Phase(name=name, task=j, steps=steps, batch=batch))
            steps_before += steps
        return phases

    def _blurred(self, tasks: Sequence[Task], weights: np.ndarray, seed: int, before: int, step: int) -> Batch:
        return mixture(tasks, weights, key=[seed, MIX], step=before + step, rows=self.batch_size)


def _later(task: Task, before: int, step: int) -> Batch:
    return task.batch(before + step)


def hold_out(source: Source, *, wanted: int | None, needed: int, base_seed: int) -> tuple[list[int], list[int]]:
    """Families kept out of the base, in a random order, and the classes that are left for it.

    `wanted` families, or 80 (half of the source if it is smaller), but at least `needed`.
    """
    families = source.families()
    count = wanted if wanted is not None else max(needed, min(HELD_OUT, len(families) // 2))
    if needed > len(families):
        raise ValueError(f"source={source.name} has {len(families)} unrelated classes, the tasks need {needed}")
    if count > len(families):
        raise ValueError(f"task.held_out={wanted}: source={source.name} has only {len(families)} unrelated classes")
    order = np.random.default_rng([base_seed, HOLD_OUT]).permutation(len(families))
    return [int(f) for f in order[:count]], [c for f in sorted(order[count:]) for c in families[f]]
