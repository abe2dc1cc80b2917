"""`curriculum`: one task, the general text of a source, in training rows that get longer.

    task.lengths=[256,512,1024]   task.batch_size=4   task.seq_len=1024
    16 rows of 256 tokens, then 8 rows of 512, then 4 rows of 1024: always 4,096 tokens in a batch

Short rows are quick, and long ones teach what only long contexts show. Evaluations always read rows
of task.seq_len tokens, before training and after each length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated

import numpy as np
from annotated_types import Ge

from ttt.stream import Phase, Source, Stream
from ttt.tasks.machinery.cut import BASE, LEARN, SourceView
from ttt.tasks.machinery.drawn import DrawnTask
from ttt.tasks.machinery.settings import StreamSettings, hold_out


@dataclass(frozen=True, kw_only=True)
class Curriculum(StreamSettings):
    """Arguments are explained in conf/task/curriculum.yaml."""

    lengths: list[Annotated[int, Ge(2)]] | None
    held_out: Annotated[int, Ge(0)] | None

    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        self._check(source)
        lengths = self._lengths()
        scenario = self.pick_scenario(allowed=("domain",), why="the only task has all outputs")
        _, classes = hold_out(source, wanted=self.held_out, needed=0, base_seed=base_seed)
        view = SourceView(source=source, classes=np.array(classes))
        task = self.task([view], name="general text", key=[seed, LEARN, 0])
        base = self.base([view], base_seed=base_seed, key=BASE)
        stream = self.stream(source, base=base, tasks=[task], scenario=scenario, seed=seed)
        return replace(stream, phases=self._stages(view, lengths, seed=seed))

    def _stages(self, view: SourceView, lengths: Sequence[int], *, seed: int) -> list[Phase]:
        """Return a phase for each length; their steps differ by at most one."""
        phases, sizes = [], self.sizes(view.source, view.classes)
        shares = np.array_split(np.arange(int(self.steps_per_task)), len(lengths))
        for i, (length, share) in enumerate(zip(lengths, shares, strict=True)):
            # Key 0 is that of the task itself, which has rows of task.seq_len tokens.
            key, name = [seed, LEARN, 1 + i], f"rows of {length} tokens"
            # Batches have equally many tokens, so that a step costs about the same at any length.
            rows = self.batch_size * self.seq_len // length
            stage = DrawnTask([view], name=name, key=key, sizes=replace(sizes, batch_size=rows, length=length))
            phases.append(Phase(name=name, task=0, steps=len(share), batch=stage.batch))
        return phases

    def _lengths(self) -> list[int]:
        """Return the lengths of rows. Raises ValueError where batches would not be equal."""
        lengths = [self.seq_len] if self.lengths is None else self.lengths
        # Then every batch has a multiple of the rows of the last one, also when devices share it.
        if not lengths or any(longer % length for length, longer in pairwise([*lengths, self.seq_len])):
            raise ValueError(
                f"task.lengths={lengths}: each must divide the next one, and the last task.seq_len={self.seq_len}"
            )
        if self.passes is not None:
            raise ValueError(f"task.steps_per_task={self.steps_per_task}: it has no whole passes; give a number")
        if int(self.steps_per_task) < len(lengths):
            raise ValueError(f"task.steps_per_task={self.steps_per_task}: less than a step for each of {lengths}")
        return lengths

    def _check(self, source: Source) -> None:
        """Raises ValueError for what other streams have and this one lacks."""
        for argument, only in (("num_tasks", 1), ("revisits", 0), ("blur", 0), ("examples", None)):
            value = getattr(self, argument)
            if value != only:
                raise ValueError(f"task.{argument}={value}: {self.name} has one task of text; use {json.dumps(only)}")
        if source.vector_size is not None:
            raise ValueError(f"task={self.name}: source={source.name} gives vectors, and rows get longer in tokens")
