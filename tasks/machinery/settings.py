"""What all streams share: the arguments of conf/stream.yaml, and what follows from them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Lt

from ttt.stream import Batch, HasAnswers, Ints, Phase, Source, Stream, Task, mixture
from ttt.tasks.machinery.cut import BASE, HOLD_OUT, MIX, SourceView
from ttt.tasks.machinery.drawn import DrawnTask, Sizes
from ttt.tasks.machinery.whole import WholeText

PASSES = re.compile(r"(one|[1-9][0-9]*)-pass(es)?")
ALL = "all"
# Sequences on which the base is measured where tasks of running text are measured on all.
BASE_ROWS = 64
# Classes kept out of the base where held_out is null, if the source has twice as many.
HELD_OUT = 80


@dataclass(frozen=True, kw_only=True)
class StreamSettings(ABC):
    """Arguments are explained in conf/stream.yaml; a stream's own YAML adds its own."""

    name: str
    scenario: Literal["auto", "task", "domain", "class"]
    num_tasks: Annotated[int, Ge(1)] | None
    revisits: Annotated[int, Ge(0)]
    blur: Annotated[float, Ge(0), Lt(1)]
    steps_per_task: Annotated[int, Ge(1)] | str
    batch_size: Annotated[int, Ge(1)]
    seq_len: Annotated[int, Ge(2)]
    examples: Annotated[int, Ge(1)] | None
    eval_sequences: Annotated[int, Ge(1)] | Literal["all"]
    train_tokens: Annotated[int, Ge(1)] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.steps_per_task, str) and self.passes is None:
            raise ValueError(
                f"task.steps_per_task={self.steps_per_task}: must be a number of at least 1, or one-pass, 4-pass, ..."
            )
        if self.train_tokens is not None and self.passes is None:
            raise ValueError(
                f"task.train_tokens={self.train_tokens}: limits what a pass reads; use task.steps_per_task=one-pass"
            )
        if self.blur and self.passes is not None:
            raise ValueError(
                f"task.steps_per_task={self.steps_per_task}: with task.blur={self.blur} rows of other tasks "
                "take the place of a task's own rows, so that no pass is whole; give a number"
            )

    @property
    def passes(self) -> int | None:
        """How often a visit reads each training piece of a task; None where steps are counted."""
        match = PASSES.fullmatch(str(self.steps_per_task))
        if match is None:
            return None
        return 1 if match[1] == "one" else int(match[1])

    @abstractmethod
    def build(self, source: Source, *, seed: int, base_seed: int) -> Stream:
        """Cut `source` into a stream. Raises ValueError where it lacks what the stream needs."""

    def stream(self, source: Source, *, base: Task | None, tasks: Sequence[Task], scenario: str, seed: int) -> Stream:
        """Return the stream of these tasks, in the order of their phases."""
        return Stream(
            base=base,
            tasks=tasks,
            phases=self.phases(tasks, seed=seed),
            vocab_size=source.vocab_size,
            seq_len=self.seq_len,
            scenario=scenario,
            show=source.show,
            vector_size=source.vector_size,
            token_bytes=source.token_bytes,
            answers=isinstance(source, HasAnswers) and source.answers,
        )

    def pick_scenario(self, *, allowed: Sequence[str], why: str) -> str:
        """Return the scenario: the first of `allowed` for `auto`, else the one that was typed.

        Raises ValueError with the reason `why` where that one is not allowed.
        """
        if self.scenario == "auto":
            return allowed[0]
        if self.scenario not in allowed:
            raise ValueError(f"task.scenario={self.scenario}: {why}; allowed: {', '.join(allowed)}")
        return self.scenario

    def needed(self, argument: str) -> int:
        """Return an argument for which this stream has no default. Raises ValueError for null."""
        value: int | None = getattr(self, argument)
        if value is None:
            raise ValueError(f"task.{argument}=null: {self.name} needs a number")
        return value

    def length(self, source: Source) -> int:
        """Return the tokens of a row: all that fit, or as many as `examples` take.

        Vectors take a position each; without `examples`, a row holds one.
        """
        if source.vector_size is not None:
            return self.examples or 1
        if self.examples is None:
            return self.seq_len
        if source.example_len is None:
            raise ValueError(f"task.examples={self.examples}: source={source.name} is running text, without examples")
        # Minus one: the last label is a target only.
        length = self.examples * (source.example_len + 1) - 1
        if length > self.seq_len:
            raise ValueError(
                f"task.examples={self.examples}: takes {length} tokens of source={source.name}, "
                f"but task.seq_len={self.seq_len}"
            )
        return length

    def sizes(self, source: Source, classes: Ints) -> Sizes:
        """Return the sizes of a task of `classes` whose rows are drawn at random."""
        length = self.length(source)
        rows = self._all_rows(source, classes, length) if isinstance(self.eval_sequences, str) else self.eval_sequences
        return Sizes(batch_size=self.batch_size, length=length, eval_sequences=rows)

    def _all_rows(self, source: Source, classes: Ints, length: int) -> int | None:
        """Return the rows that hold all labelled examples of an eval part; None for text."""
        if isinstance(source, WholeText):
            return None
        examples = source.eval_examples(classes)
        if examples is None:
            raise ValueError(
                f"task.eval_sequences={ALL}: source={source.name} generates sequences without end; give a number"
            )
        # Rounded up: the last row is filled with the first examples again.
        return -(-examples // source.per_row(length=length))

    def task(self, views: Sequence[SourceView], *, name: str, key: Sequence[int]) -> DrawnTask:
        """Return a task of the stream, read in whole passes where `steps_per_task` says so."""
        source, classes = views[0].source, views[0].classes
        sizes = self.sizes(source, classes)
        if self.passes is not None and source.units(classes, length=sizes.length) is None:
            raise ValueError(
                f"task.steps_per_task={self.steps_per_task}: source={source.name} generates sequences "
                "without end, so there is no whole pass; give a number"
            )
        sizes = replace(sizes, passes=self.passes, train_tokens=self.train_tokens)
        return DrawnTask(views, name=name, key=key, sizes=sizes)

    def base(self, views: Sequence[SourceView], *, base_seed: int, key: int) -> DrawnTask | None:
        """Return the distribution before the stream; None where no class is left for it.

        Each row is drawn at random from one of `views`.
        """
        if not views or not len(views[0].classes):
            return None
        sizes = self.sizes(views[0].source, views[0].classes)
        if sizes.eval_sequences is None:
            # The eval parts of hundreds of classes would take longer to read than the stream.
            sizes = replace(sizes, eval_sequences=BASE_ROWS)
        return DrawnTask(views, name="base", key=[base_seed, key], sizes=sizes)

    def base_of(self, source: Source, *, base_seed: int) -> Task | None:
        """Return the base distribution where it is all classes of another source."""
        classes = np.arange(sum(map(len, source.families())))
        return self.base([SourceView(source=source, classes=classes)], base_seed=base_seed, key=BASE)

    def steps(self, task: Task) -> int:
        """Return the batches of a visit to `task`."""
        if self.passes is None:
            return int(self.steps_per_task)
        # Streams with other kinds of tasks refuse passes.
        assert isinstance(task, DrawnTask)
        assert task.visit_steps is not None
        return task.visit_steps

    def phases(self, tasks: Sequence[Task], *, seed: int) -> list[Phase]:
        """Return a phase for each task in turn, and again for every revisit.

        With `blur`, rows of the other tasks are mixed in.
        """
        phases, steps_before = [], 0
        for place, j in enumerate(list(range(len(tasks))) * (1 + self.revisits)):
            steps, visit = self.steps(tasks[j]), place // len(tasks)
            if self.blur and len(tasks) > 1:
                # `blur` is shared by the other tasks; this one keeps the rest.
                weights = np.full(len(tasks), self.blur / (len(tasks) - 1))
                weights[j] = 1 - self.blur
                batch = partial(self._blurred, tasks, weights, seed, steps_before)
            else:
                # A revisit goes on where the last visit stopped: it reads new batches.
                batch = partial(_later, tasks[j], visit * steps)
            name = tasks[j].name + (f" (visit {visit + 1})" if visit else "")
            phases.append(Phase(name=name, task=j, steps=steps, batch=batch))
            steps_before += steps
        return phases

    def _blurred(self, tasks: Sequence[Task], weights: np.ndarray, seed: int, before: int, step: int) -> Batch:
        return mixture(tasks, weights, key=[seed, MIX], step=before + step, rows=self.batch_size)


# A function with its arguments bound, not a closure: worker processes may have to pickle it.
def _later(task: Task, before: int, step: int) -> Batch:
    return task.batch(before + step)


def hold_out(source: Source, *, wanted: int | None, needed: int, base_seed: int) -> tuple[list[int], list[int]]:
    """Return the families kept out of the base, in a random order, and the classes left for it.

    `wanted` families are kept out; where it is None, 80 (half of a smaller source), and at least
    `needed`. Raises ValueError where the source has too few.
    """
    families = source.families()
    count = wanted if wanted is not None else max(needed, min(HELD_OUT, len(families) // 2))
    if needed > len(families):
        raise ValueError(f"source={source.name} has {len(families)} unrelated classes, the tasks need {needed}")
    if count > len(families):
        raise ValueError(
            f"task.held_out={wanted}: source={source.name} has only {len(families)} unrelated classes; "
            f"type task.held_out={max(needed, len(families) - 1)}: the base learns from the rest"
        )
    # The base's seed, not the run's: runs with different seeds share one pretrained base.
    order = np.random.default_rng([base_seed, HOLD_OUT]).permutation(len(families))
    return [int(f) for f in order[:count]], [c for f in sorted(order[count:]) for c in families[f]]
