"""`reward-sequence`: problems with a verifiable answer, task after task, each under a hidden rule.

    base      lessons: words in the prompt are obeyed, rules of tasks never occur
    task 1    reverse, then swap 3 and 7     [null null] 3 1 4 1 = 1 4 1 7
    task 2    sort, then swap 0 and 5        [null null] 3 1 4 1 = 1 1 3 4

Every row of a task carries the seed prompt, which says nothing: what a better prompt says is for the learner to find.
Batches hold the true answers, so that the same stream can be learned by imitation, or from rewards alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ttt.stream import Batch, Phase, Source, Stream, Task
from ttt.tasks.machinery.cut import BASE, CHOOSE, LEARN, fingerprint
from ttt.tasks.machinery.problems import NAMES, Problems
from ttt.tasks.machinery.settings import ALL, StreamSettings

# First in the key of every eval generator: no seed that anyone types leads to the same numbers.
EVAL = 0x6576616C


@dataclass(frozen=True, kw_only=True)
class RewardSequence(StreamSettings):
    """Arguments are explained in conf/task/reward-sequence.yaml."""

    ops: int
    base_batch: int
    announced: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument in ("ops", "base_batch"):
            if getattr(self, argument) < 1:
                raise ValueError(f"task.{argument}={getattr(self, argument)}: must be at least 1")
        for argument, word in (("steps_per_task", self.passes and self.steps_per_task), ("eval_sequences", ALL)):
            if word and getattr(self, argument) == word:
                raise ValueError(f"task.{argument}={word}: problems are made up as they are asked for; give a number")
        if self.examples is not None:
            raise ValueError(f"task.examples={self.examples}: a row of {self.name} is one problem; use null")

    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        if not isinstance(source, Problems):
            raise ValueError(
                f"task={self.name}: source={source.name} has no problems with a verifiable answer; "
                f"use source={', '.join(NAMES[:-1])} or {NAMES[-1]}"
            )
        if self.seq_len < source.length:
            what = f"a problem of source={source.name} takes {source.length} tokens"
            raise ValueError(f"task.seq_len={self.seq_len}: {what}")
        scenario = self.pick_scenario(allowed=("domain",), why="all tasks have the same outputs")
        tasks = [
            HiddenTask(source, index, key=[seed, LEARN, i], rows=self.batch_size, eval_rows=self._eval_rows)
            for i, index in enumerate(self._classes(source, seed=seed))
        ]
        base = Lessons(source, key=[base_seed, BASE], rows=self.base_batch, eval_rows=self._eval_rows)
        stream = self.stream(source, base=base, tasks=tasks, scenario=scenario, seed=seed)
        return replace(stream, layout=source.layout, seq_len=source.length)

    @property
    def _eval_rows(self) -> int:
        return int(self.eval_sequences)

    def _classes(self, source: Problems, *, seed: int) -> list[int]:
        """A class for each task, none twice."""
        there = source.choose(self.ops)
        if self.num_tasks is not None and self.num_tasks > len(there):
            what = f"source={source.name} has {len(there)} with task.ops={self.ops}"
            raise ValueError(f"task.num_tasks={self.num_tasks}: {what}")
        order = np.random.default_rng([seed, CHOOSE]).permutation(len(there))
        return [there[place] for place in order[: self.num_tasks]]

    def phases(self, tasks: Sequence[Task], *, seed: int) -> list[Phase]:
        return [replace(phase, announced=self.announced) for phase in super().phases(tasks, seed=seed)]


class HiddenTask:
    """Problems of one class. Its eval part is the same in every run: nothing that a run draws goes into it."""

    entropy = 0.0

    def __init__(self, source: Problems, index: int, *, key: Sequence[int], rows: int, eval_rows: int) -> None:
        self.name = source.class_name(index)
        self._source, self._class, self._key = source, index, list(key)
        self._rows, self._eval_rows = rows, eval_rows
        self.fingerprint = fingerprint(self)

    def batch(self, step: int) -> Batch:
        rng = np.random.default_rng([*self._key, step])
        return self._source.problems(self._class, rows=self._rows, rng=rng)

    def evaluation(self) -> Batch:
        rng = np.random.default_rng([EVAL, self._class])
        return self._source.problems(self._class, rows=self._eval_rows, rng=rng)


class Lessons:
    """The base distribution. It is measured by the skills that it teaches, not by how it guesses hidden prompts."""

    name = "base"
    # How well hidden instructions can be guessed from the first tokens of an answer nobody has worked out.
    entropy = float("nan")

    def __init__(self, source: Problems, *, key: Sequence[int], rows: int, eval_rows: int) -> None:
        self._source, self._key = source, list(key)
        self._rows, self._eval_rows = rows, eval_rows
        self.fingerprint = fingerprint(self)

    def batch(self, step: int) -> Batch:
        return self._source.lessons(rows=self._rows, rng=np.random.default_rng([*self._key, step]))

    def evaluation(self) -> Batch:
        return self._source.skills(rows=self._eval_rows, rng=np.random.default_rng([EVAL]))
