"""What tasks promise: batches follow from their key alone, and parts do not mix.

batch(3), batch(0), batch(3)    the first and the last are equal, whatever was read between
train  a b c | eval  d e        no eval sequence is learned
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ttt.promises.data import equal, misshapen, rows_of
from ttt.promises.ruling import HOLDS, Ruling, broken
from ttt.stream import Stream

# Steps of a task that are looked at.
STEPS = 6
# What a task has, see `Task` of ttt/stream/stream.py.
MEMBERS = ("name", "fingerprint", "entropy", "batch", "evaluation")


@dataclass(frozen=True)
class TaskCase:
    """`cut` makes the stream anew for a seed."""

    cut: Callable[[int], Stream]

    @cached_property
    def stream(self) -> Stream:
        return self.cut(0)


def pure(case: TaskCase) -> Ruling:
    """A batch is the same in any order of reading, and in a stream that was cut anew."""
    # Another stream, so that nothing that the first one remembers helps.
    again = case.cut(0)
    for phase, other in zip(case.stream.phases, again.phases, strict=True):
        steps = range(min(STEPS, phase.steps))
        # A hidden counter would give the last batch first.
        backwards = {step: other.batch(step) for step in reversed(steps)}
        for step in steps:
            if not equal(phase.batch(step), backwards[step]):
                return broken(f"task {phase.name!r}, batch {step}: differs when batches are read backwards")
    return HOLDS


def uses_no_chance(case: TaskCase) -> Ruling:
    """Reading batches uses up no random number of the run."""
    # numpy's state is a tuple with an array in it, which only as text compares at once.
    before, numpy_before = torch.get_rng_state(), str(np.random.get_state())
    for phase in case.stream.phases:
        phase.batch(0)
    if not torch.equal(torch.get_rng_state(), before):
        return broken("torch's generator moves while a batch is read")
    return HOLDS if str(np.random.get_state()) == numpy_before else broken("numpy's generator moves")


def seeds_differ(case: TaskCase) -> Ruling:
    """Another seed gives other batches."""
    # A seed may draw fewer tasks, where the source has few classes.
    pairs = zip(case.stream.phases, case.cut(1).phases, strict=False)
    if all(equal(phase.batch(0), other.batch(0)) for phase, other in pairs):
        return broken("the first batches of seeds 0 and 1 are equal")
    return HOLDS


def task_fingerprints(case: TaskCase) -> Ruling:
    """Equal tasks have equal fingerprints, and different tasks different ones."""
    again = case.cut(0)
    for task, other in zip(case.stream.tasks, again.tasks, strict=True):
        if task.fingerprint != other.fingerprint:
            return broken(f"task {task.name!r}: its fingerprint changes when the stream is cut again")
    seen: dict[str, int] = {}
    for index, task in enumerate(case.stream.tasks):
        # Tasks that are equal on purpose may share a fingerprint.
        first = seen.setdefault(task.fingerprint, index)
        if first != index and not equal(task.batch(0), case.stream.tasks[first].batch(0)):
            return broken(f"tasks {first + 1} and {index + 1}: one fingerprint for different batches")
    return HOLDS


def task_parts(case: TaskCase) -> Ruling:
    """No eval sequence of a task is learned in the stream."""
    learned = {row for phase in case.stream.phases for step in range(min(STEPS, phase.steps))
               for row in rows_of(phase.batch(step))}  # fmt: skip
    for task in case.stream.tasks:
        evaluation = list(rows_of(task.evaluation()))
        for index, row in enumerate(evaluation):
            if row in learned:
                return broken(f"task {task.name!r}: row {index} of its eval part is a row of the train part")
        if evaluation != list(rows_of(task.evaluation())):
            return broken(f"task {task.name!r}: its eval part differs when read again")
    return HOLDS


def stream_shapes(case: TaskCase) -> Ruling:
    """Batches are what models read, and every task is learned by a phase."""
    stream = case.stream
    if not isinstance(stream, Stream):
        return broken(f"build() returns {type(stream).__name__}, not a Stream")
    bases = [] if stream.base is None else [stream.base]
    for task in [*stream.tasks, *bases]:
        lacking = [name for name in MEMBERS if not hasattr(task, name)]
        if lacking:
            return broken(f"a task, {type(task).__name__}, lacks {', '.join(lacking)}; see ttt/stream/stream.py")
    for phase in stream.phases:
        if not 0 <= phase.task < len(stream.tasks) or phase.steps < 1:
            return broken(f"phase {phase.name!r}: teaches task {phase.task + 1} in {phase.steps} steps")
        why = misshapen(phase.batch(0), vocab=stream.vocab_size, length=stream.seq_len)
        if why:
            return broken(f"phase {phase.name!r}, batch 0: {why}")
    for task in [*stream.tasks, *bases]:
        why = misshapen(task.evaluation(), vocab=stream.vocab_size, length=stream.seq_len)
        if why:
            return broken(f"task {task.name!r}, eval part: {why}")
    missing = sorted(set(range(len(stream.tasks))) - {phase.task for phase in stream.phases})
    return broken(f"no phase teaches task {missing[0] + 1}") if missing else HOLDS


PROMISES = {
    "batches follow from seed, task and step": pure,
    "batches use up no chance of the run": uses_no_chance,
    "another seed gives other batches": seeds_differ,
    "fingerprints tell tasks apart": task_fingerprints,
    "no eval sequence is learned": task_parts,
    "batches have the shapes that models read": stream_shapes,
}
