"""`split-sequence`: a source cut by its classes, a few per task, held out from the base.

    base      over 400 languages, mixed
    task 1    Bulu            task 2    Quechua (Ayacucho)            ...            task 10    Maltese

`base.seed` says which classes are held out; `seed` says which of them become tasks, and in which order.
So runs with different seeds see different streams and still share one pretrained base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttt.stream import Ints, Source, Stream
from ttt.tasks.machinery.cut import BASE, CHOOSE, LEARN, View, label
from ttt.tasks.machinery.settings import StreamSettings, hold_out

# Groups of base classes that stand for as many small tasks, where outputs are those of a task.
BASE_GROUPS = 200
ORDERS = ("random", "source")


@dataclass(frozen=True, kw_only=True)
class SplitSequence(StreamSettings):
    """Arguments are explained in conf/task/split-sequence.yaml."""

    classes_per_task: int
    held_out: int | None
    order: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in ORDERS:
            raise ValueError(f"task.order={self.order}: must be one of {', '.join(ORDERS)}")
        for argument, value in {"classes_per_task": self.classes_per_task, "held_out": self.held_out}.items():
            if value is not None and value < 1:
                raise ValueError(f"task.{argument}={value}: must be at least 1")

    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        scenario = self.split_scenario(source)
        groups, rest = self.groups(source, seed=seed, base_seed=base_seed)
        tasks = [
            self.task([self.view(source, group, scenario)], name=label(source, group), key=[seed, LEARN, i])
            for i, group in enumerate(groups)
        ]
        base = self.base(self.base_views(source, rest, scenario, base_seed), base_seed=base_seed, key=BASE)
        return self.stream(source, base=base, tasks=tasks, scenario=scenario, seed=seed)

    def split_scenario(self, source: Source) -> str:
        allowed = ("class", "task", "domain") if len(source.labels) else ("domain",)
        return self.pick_scenario(allowed=allowed, why=f"source={source.name} is running text: all tokens compete")

    def groups(self, source: Source, *, seed: int, base_seed: int) -> tuple[list[list[int]], list[int]]:
        """Classes of each task, and those of the base."""
        families = source.families()
        available = self.held_out or len(families)
        num_tasks = self.num_tasks or available // self.classes_per_task
        needed = num_tasks * self.classes_per_task
        if needed > available:
            limit = f"task.held_out={self.held_out} keeps" if self.held_out else f"source={source.name} has"
            raise ValueError(
                f"task.num_tasks={num_tasks} with task.classes_per_task={self.classes_per_task} needs {needed} "
                f"classes, but {limit} only {available}"
            )
        held, rest = hold_out(source, wanted=self.held_out, needed=needed, base_seed=base_seed)
        # One class of a family only: its relatives are in no task and not in the base.
        if self.order == "source":
            listed = [families[f][0] for f in sorted(held)]
            size = self.classes_per_task
            return [listed[i * size : (i + 1) * size] for i in range(num_tasks)], rest
        rng = np.random.default_rng([seed, CHOOSE])
        chosen = [families[f][0] for f in rng.permutation(held)[:needed]]
        return [chosen[i::num_tasks] for i in range(num_tasks)], rest

    def view(self, source: Source, classes: Sequence[int] | Ints, scenario: str) -> View:
        """The classes of one task, its labels as the scenario has them."""
        names_V = outputs_V = None
        labels = [source.labels[c] for c in classes] if len(source.labels) else []
        if scenario == "domain" and labels:
            # The first class of every task is called by one label, the second by another, ...
            names_V = np.arange(source.vocab_size)
            names_V[labels] = [source.labels[k] for k in range(len(labels))]
            if source.vector_size is not None:
                # Without tokens, what competes is the labels that tasks share.
                outputs_V = np.isin(np.arange(source.vocab_size), list(source.labels[: len(labels)]))
        if scenario == "task":
            outputs_V = np.zeros(source.vocab_size, dtype=np.bool_)
            outputs_V[labels] = True
        return View(source=source, classes=np.asarray(classes), names_V=names_V, outputs_V=outputs_V)

    def base_views(self, source: Source, rest: list[int], scenario: str, base_seed: int) -> list[View]:
        """One view of all classes; or, where outputs are those of a task, many small tasks like those to come."""
        if not len(source.labels) or scenario == "class":
            return [self.view(source, rest, "class")]
        if len(rest) < self.classes_per_task:
            return []
        rng = np.random.default_rng([base_seed, CHOOSE])
        groups = [rng.permutation(rest)[: self.classes_per_task] for _ in range(BASE_GROUPS)]
        return [self.view(source, group, scenario) for group in groups]
