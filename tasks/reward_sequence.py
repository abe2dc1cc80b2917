"""`reward-sequence`: problems with a verifiable answer, task after task, each under a hidden rule.

    base      lessons: words in the prompt are obeyed, rules of tasks never occur
    task 1    reverse, then swap 3 and 7     [null null] 3 1 4 1 = 1 4 1 7
    task 2    sort, then swap 0 and 5        [null null] 3 1 4 1 = 1 1 3 4

Every row of a task carries the seed prompt, which says nothing: it is up to the learner to find a
better prompt. With task.prompt=rule it carries all that words can say of the rule. Batches hold the
true answers, so that the same stream can be learned by imitation, or from rewards alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge

from ttt.stream import Batch, Phase, Source, Stream, Task
from ttt.tasks.machinery.cut import BASE, CHOOSE, LEARN
from ttt.tasks.machinery.drawn import fingerprint
from ttt.tasks.machinery.problems import NAMES, Problems
from ttt.tasks.machinery.settings import ALL, StreamSettings

# First in the key of every eval generator: no seed that anyone types leads to the same numbers.
EVAL = 0x6576616C


@dataclass(frozen=True, kw_only=True)
class RewardSequence(StreamSettings):
    """Arguments are explained in conf/task/reward-sequence.yaml."""

    ops: Annotated[int, Ge(1)]
    base_batch: Annotated[int, Ge(1)]
    announced: bool
    prompt: Literal["seed", "rule"]

    def __post_init__(self) -> None:
        super().__post_init__()
        words = {"steps_per_task": self.passes is not None, "eval_sequences": self.eval_sequences == ALL}
        for argument, is_word in words.items():
            if is_word:
                value = getattr(self, argument)
                raise ValueError(f"task.{argument}={value}: problems are generated without end; give a number")
        if self.examples is not None:
            raise ValueError(f"task.examples={self.examples}: a row of {self.name} is one problem; use null")

    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        if not isinstance(source, Problems):
            raise ValueError(
                f"task={self.name}: source={source.name} has no problems with a verifiable answer; "
                f"use source={', '.join(NAMES[:-1])} or {NAMES[-1]}"
            )
        if self.seq_len < source.length:
            raise ValueError(
                f"task.seq_len={self.seq_len}: a problem of source={source.name} takes {source.length} tokens"
            )
        scenario = self.pick_scenario(allowed=("domain",), why="all tasks have the same outputs")
        tasks = [
            HiddenTask(
                source,
                index,
                key=[seed, LEARN, i],
                rows=self.batch_size,
                eval_rows=self._eval_rows,
                described=self.prompt == "rule",
            )
            for i, index in enumerate(self._classes(source, seed=seed))
        ]
        base = Lessons(source, key=[base_seed, BASE], rows=self.base_batch, eval_rows=self._eval_rows)
        stream = self.stream(source, base=base, tasks=tasks, scenario=scenario, seed=seed)
        # A row has as many tokens as a problem takes, often fewer than task.seq_len allows.
        return replace(stream, layout=source.layout, seq_len=source.length)

    def phases(self, tasks: Sequence[Task], *, seed: int) -> list[Phase]:
        return [replace(phase, announced=self.announced) for phase in super().phases(tasks, seed=seed)]

    @property
    def _eval_rows(self) -> int:
        return int(self.eval_sequences)

    def _classes(self, source: Problems, *, seed: int) -> list[int]:
        """Return a different class for each task."""
        classes = source.choose(self.ops)
        if self.num_tasks is not None and self.num_tasks > len(classes):
            raise ValueError(
                f"task.num_tasks={self.num_tasks}: source={source.name} has {len(classes)} with task.ops={self.ops}; "
                f"type task.num_tasks={len(classes)} or less, or another task.ops"
            )
        order = np.random.default_rng([seed, CHOOSE]).permutation(len(classes))
        return [classes[place] for place in order[: self.num_tasks]]


class HiddenTask:
    """Problems of one class.

    Its eval part is the same in every run: nothing that a run draws goes into it.
    Entropy 0: the answer is certain for a learner who knows the rule. `described`: rows carry the
    prompt that says most of it. The fingerprint is that of the problems, whatever the prompt.
    """

    entropy = 0.0

    def __init__(
        self, source: Problems, index: int, *, key: Sequence[int], rows: int, eval_rows: int, described: bool
    ) -> None:
        self.name = source.class_name(index)
        self._source, self._class, self._key = source, index, list(key)
        self._rows, self._eval_rows = rows, eval_rows
        self._prompt = source.layout.seed_prompt
        self.fingerprint = fingerprint(self.batch, self.evaluation)
        if described:
            self._prompt = source.describing(index)

    def batch(self, step: int) -> Batch:
        return self._drawn(self._rows, key=[*self._key, step])

    def evaluation(self) -> Batch:
        return self._drawn(self._eval_rows, key=[EVAL, self._class])

    def _drawn(self, rows: int, *, key: Sequence[int]) -> Batch:
        batch = self._source.problems(self._class, rows=rows, rng=np.random.default_rng(key))
        # The source has put the seed prompt at the head of each row.
        batch.tokens_BT[:, : len(self._prompt)] = torch.tensor(self._prompt)
        return batch


class Lessons:
    """The base distribution, measured by the skills that it teaches, not by guessing prompts."""

    name = "base"
    # Nobody has worked out how well the first tokens of an answer reveal a hidden instruction.
    entropy = float("nan")

    def __init__(self, source: Problems, *, key: Sequence[int], rows: int, eval_rows: int) -> None:
        self._source, self._key = source, list(key)
        self._rows, self._eval_rows = rows, eval_rows
        self.fingerprint = fingerprint(self.batch, self.evaluation)

    def batch(self, step: int) -> Batch:
        return self._source.lessons(rows=self._rows, rng=np.random.default_rng([*self._key, step]))

    def evaluation(self) -> Batch:
        return self._source.skills(rows=self._eval_rows, rng=np.random.default_rng([EVAL]))
