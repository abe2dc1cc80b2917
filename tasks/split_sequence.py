"""`split-sequence`: a source cut by its classes, a few per task, held out from the base.

    base      over 400 languages, mixed
    task 1    Bulu          task 2    Quechua (Ayacucho)          ...          task 10    Maltese

`base.seed` decides which classes are held out; `seed` decides which of them become tasks, and in
which order. So runs with different seeds see different streams and still share one pretrained base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from ttt.stream import Ints, Source, Stream
from ttt.tasks.machinery.cut import BASE, CHOOSE, LEARN, SourceView, task_name
from ttt.tasks.machinery.settings import StreamSettings, hold_out

# Where each task has outputs of its own, the base is this many small tasks like those to come.
BASE_GROUPS = 200


@dataclass(frozen=True, kw_only=True)
class SplitSequence(StreamSettings):
    """Arguments are explained in conf/task/split-sequence.yaml."""

    classes_per_task: Annotated[int, Ge(1)]
    held_out: Annotated[int, Ge(1)] | None
    order: Literal["random", "source"]
    draw: Literal["random", "disjoint"] = "random"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draw == "disjoint" and self.order == "source":
            raise ValueError("task.draw=disjoint: task.order=source gives every seed the same tasks; use order=random")

    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        scenario = self._scenario(source)
        groups, rest = self._groups(source, seed=seed, base_seed=base_seed)
        tasks = [
            self.task([self._view(source, group, scenario)], name=task_name(source, group), key=[seed, LEARN, i])
            for i, group in enumerate(groups)
        ]
        base = self.base(self._base_views(source, rest, scenario, base_seed), base_seed=base_seed, key=BASE)
        return self.stream(source, base=base, tasks=tasks, scenario=scenario, seed=seed)

    def _scenario(self, source: Source) -> str:
        allowed = ("class", "task", "domain") if len(source.labels) else ("domain",)
        return self.pick_scenario(allowed=allowed, why=f"source={source.name} is running text: all tokens compete")

    def _groups(self, source: Source, *, seed: int, base_seed: int) -> tuple[list[list[int]], list[int]]:
        """Return the classes of each task, and those of the base."""
        families = source.families()
        num_tasks = self._num_tasks(source)
        needed = num_tasks * self.classes_per_task
        held, rest = hold_out(source, wanted=self.held_out, needed=needed, base_seed=base_seed)
        # One class of each family: its relatives are in no task and not in the base, where they
        # would give away what the task has yet to teach.
        if self.order == "source":
            listed = [families[f][0] for f in sorted(held)]
            size = self.classes_per_task
            return [listed[i * size : (i + 1) * size] for i in range(num_tasks)], rest
        chosen = [families[f][0] for f in self._drawn(held, needed, seed)]
        return [chosen[i::num_tasks] for i in range(num_tasks)], rest

    def _drawn(self, held: Sequence[int], needed: int, seed: int) -> Sequence[int]:
        """Return the families of the stream of `seed`, out of those held out."""
        if self.draw == "random":
            return list(np.random.default_rng([seed, CHOOSE]).permutation(held)[:needed])
        seeds = len(held) // needed
        if seed >= seeds:
            raise ValueError(
                f"seed={seed}: with task.draw=disjoint there are {seeds} seeds, from 0 on, because {len(held)} classes "
                f"are held out and a stream takes {needed}; hold out more (task.held_out)"
            )
        # `held` is in a random order that base.seed drew, so blocks of it are drawn at random too.
        return held[seed * needed : (seed + 1) * needed]

    def _num_tasks(self, source: Source) -> int:
        available = self.held_out or len(source.families())
        # As many tasks as the classes allow, where no number was typed.
        num_tasks = self.num_tasks or available // self.classes_per_task
        needed = num_tasks * self.classes_per_task
        if needed > available:
            limit = f"task.held_out={self.held_out} keeps" if self.held_out else f"source={source.name} has"
            raise ValueError(
                f"task.num_tasks={num_tasks} with task.classes_per_task={self.classes_per_task} needs {needed} "
                f"classes, but {limit} only {available}; type {self._fitting(available)}"
            )
        return num_tasks

    def _fitting(self, available: int) -> str:
        """Return what to type where the classes are too few."""
        fitting = available // self.classes_per_task
        if fitting == 0:
            return f"task.num_tasks=1 task.classes_per_task={available}"
        if self.held_out:
            return f"task.num_tasks={fitting}, or a higher task.held_out"
        # Tasks that take every class leave none for a base.
        without = " base=none" if fitting * self.classes_per_task == available else ""
        return f"task.num_tasks={fitting}{without}, or task=permuted-sequence, whose tasks need no more classes"

    def _view(self, source: Source, classes: Sequence[int] | Ints, scenario: str) -> SourceView:
        """Return the classes of one task, with labels and outputs as the scenario has them."""
        names_V = outputs_V = None
        labels = [source.labels[c] for c in classes] if len(source.labels) else []
        if scenario == "domain" and labels:
            # The first class of every task shares one label, the second another, and so on.
            names_V = np.arange(source.vocab_size)
            names_V[labels] = [source.labels[k] for k in range(len(labels))]
            if source.vector_size is not None:
                # Among vectors there are no other tokens: only the shared labels compete.
                outputs_V = np.isin(np.arange(source.vocab_size), list(source.labels[: len(labels)]))
        if scenario == "task":
            # The outputs that compete give the task away, in evaluation too.
            outputs_V = np.zeros(source.vocab_size, dtype=np.bool_)
            outputs_V[labels] = True
        chosen = np.asarray(classes)
        return SourceView(source=source, classes=chosen, names_V=names_V, outputs_V=outputs_V, names_scored=True)

    def _base_views(self, source: Source, rest: list[int], scenario: str, base_seed: int) -> list[SourceView]:
        """Return one view of all the base's classes, or many small tasks like those to come.

        Small tasks where outputs are those of a task: the base then learns to choose among few.
        """
        if not len(source.labels) or scenario == "class":
            return [self._view(source, rest, "class")]
        # Too few classes for even one such task: the stream has no base.
        if len(rest) < self.classes_per_task:
            return []
        rng = np.random.default_rng([base_seed, CHOOSE])
        groups = [rng.permutation(rest)[: self.classes_per_task] for _ in range(BASE_GROUPS)]
        return [self._view(source, group, scenario) for group in groups]
