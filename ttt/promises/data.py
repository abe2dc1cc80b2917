"""What tasks and sources promise: batches follow from their key alone, and parts do not mix.

    batch(3), batch(0), batch(3)    the first and the last are equal, whatever was read between
    train  a b c | eval  d e        no eval sequence is drawn in training

Shapes: B batch (lanes), T time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ttt.promises.ruling import HOLDS, Ruling, broken, not_given
from ttt.stream import IGNORE, Batch, Ints, Source, Stream

# Steps of a task, classes of a source, and draws that are looked at.
STEPS, CLASSES, DRAWS = 6, 4, 8
ROWS = 4


@dataclass(frozen=True)
class TaskCase:
    """`cut` makes the stream anew for a seed."""

    cut: Callable[[int], Stream]

    @cached_property
    def stream(self) -> Stream:
        return self.cut(0)


@dataclass(frozen=True)
class SourceCase:
    """`anew` makes the source again, its data prepared again; `length`: tokens of a sequence."""

    source: Source
    anew: Callable[[], Source]
    length: int

    @cached_property
    def classes(self) -> Ints:
        """A few classes, each of another family."""
        return np.array([family[0] for family in self.source.families()][:CLASSES])

    def draw(self, source: Source, seed: int) -> Batch:
        return source.draw(self.classes, rows=ROWS, length=self.length, rng=np.random.default_rng(seed))


def pure(case: TaskCase) -> Ruling:
    """A batch is the same in any order of reading, and in a stream that was cut anew."""
    # Another stream, so that nothing that the first one remembers helps.
    again = case.cut(0)
    for phase, other in zip(case.stream.phases, again.phases, strict=True):
        steps = range(min(STEPS, phase.steps))
        # A hidden counter would give the last batch first.
        backwards = {step: other.batch(step) for step in reversed(steps)}
        for step in steps:
            if not _equal(phase.batch(step), backwards[step]):
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
    if all(_equal(phase.batch(0), other.batch(0)) for phase, other in pairs):
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
        if first != index and not _equal(task.batch(0), case.stream.tasks[first].batch(0)):
            return broken(f"tasks {first + 1} and {index + 1}: one fingerprint for different batches")
    return HOLDS


def task_parts(case: TaskCase) -> Ruling:
    """No eval sequence of a task is learned in the stream."""
    learned = {row for phase in case.stream.phases for step in range(min(STEPS, phase.steps))
               for row in _rows(phase.batch(step))}  # fmt: skip
    for task in case.stream.tasks:
        evaluation = list(_rows(task.evaluation()))
        for index, row in enumerate(evaluation):
            if row in learned:
                return broken(f"task {task.name!r}: row {index} of its eval part is a row of the train part")
        if evaluation != list(_rows(task.evaluation())):
            return broken(f"task {task.name!r}: its eval part differs when read again")
    return HOLDS


def stream_shapes(case: TaskCase) -> Ruling:
    """Batches are what models read, and every task is learned by a phase."""
    stream = case.stream
    for phase in stream.phases:
        if not 0 <= phase.task < len(stream.tasks) or phase.steps < 1:
            return broken(f"phase {phase.name!r}: teaches task {phase.task + 1} in {phase.steps} steps")
        why = misshapen(phase.batch(0), vocab=stream.vocab_size, length=stream.seq_len)
        if why:
            return broken(f"phase {phase.name!r}, batch 0: {why}")
    for task in stream.tasks:
        why = misshapen(task.evaluation(), vocab=stream.vocab_size, length=stream.seq_len)
        if why:
            return broken(f"task {task.name!r}, eval part: {why}")
    missing = sorted(set(range(len(stream.tasks))) - {phase.task for phase in stream.phases})
    return broken(f"no phase teaches task {missing[0] + 1}") if missing else HOLDS


def stable(case: SourceCase) -> Ruling:
    """Read anew, a source has the same fingerprint and gives the same sequences."""
    again = case.anew()
    if again.fingerprint != case.source.fingerprint:
        return broken("its fingerprint changes when its data are read again")
    same = _equal(case.draw(again, 0), case.draw(case.source, 0))
    return HOLDS if same else broken("equal generators draw different sequences when its data are read again")


def follows_generator(case: SourceCase) -> Ruling:
    """What is drawn follows from the generator alone."""
    first = case.draw(case.source, 0)
    other = case.draw(case.source, 1)
    if not _equal(first, case.draw(case.source, 0)):
        return broken("equal generators draw different sequences")
    return broken("different generators draw equal sequences") if _equal(first, other) else HOLDS


def in_range(case: SourceCase) -> Ruling:
    """Tokens and targets are numbers of the vocabulary, in rows of the length that was wanted."""
    batches = {
        "drawn": case.draw(case.source, 0),
        "eval part": case.source.evaluation(case.classes, rows=ROWS, length=case.length),
    }
    for what, batch in batches.items():
        why = misshapen(batch, vocab=case.source.vocab_size, length=case.length)
        if why:
            return broken(f"{what}: {why}")
    return HOLDS


def source_parts(case: SourceCase) -> Ruling:
    """No eval sequence is drawn in training, and the eval part stays as it is."""
    evaluation = list(_rows(case.source.evaluation(case.classes, rows=ROWS, length=case.length)))
    # Whole rows: short pieces of text may stand in both parts by chance.
    drawn = {row for seed in range(DRAWS) for row in _rows(case.draw(case.source, seed))}
    for index, row in enumerate(evaluation):
        if row in drawn:
            return broken(f"row {index} of the eval part is drawn in training")
    again = list(_rows(case.source.evaluation(case.classes, rows=ROWS, length=case.length)))
    return HOLDS if again == evaluation else broken("its eval part differs when read again")


def families_part(case: SourceCase) -> Ruling:
    """Each class is in one family, and has a name."""
    members = [index for family in case.source.families() for index in family]
    if sorted(members) != list(range(len(members))):
        return broken(f"families() does not hold each class once: {sorted(members)[:8]}")
    nameless = next((index for index in members if not case.source.class_name(index)), None)
    return HOLDS if nameless is None else broken(f"class {nameless} has no name")


def shows(case: SourceCase) -> Ruling:
    """Tokens can be shown as text."""
    if case.source.vector_size is not None:
        return not_given("its sequences are vectors")
    text = case.source.show(case.draw(case.source, 0).tokens_BT[0].numpy())
    return HOLDS if isinstance(text, str) and text else broken(f"show() returns {text!r}")


def misshapen(batch: Batch, *, vocab: int, length: int) -> str:
    """What is wrong with the shapes and numbers of a batch; empty where nothing is."""
    tokens, targets_BT, segment_BT, _ = batch
    if tokens.shape[:2] != targets_BT.shape or segment_BT.shape != targets_BT.shape:
        return f"tokens {list(tokens.shape)}, targets {list(targets_BT.shape)}, segments {list(segment_BT.shape)}"
    if tokens.shape[1] > length:
        return f"rows of {tokens.shape[1]} tokens, longer than {length}"
    # Vectors in place of tokens are no integers.
    kinds = {targets_BT.dtype, segment_BT.dtype} | (set() if tokens.is_floating_point() else {tokens.dtype})
    if kinds != {torch.int64}:
        return f"numbers of {', '.join(sorted(map(str, kinds)))}, not of torch.int64"
    scored_N = targets_BT[targets_BT != IGNORE]
    if not len(scored_N):
        return "no position is scored"
    for what, numbers in (("token", tokens), ("target", scored_N)):
        wrong = [] if numbers.is_floating_point() else numbers[(numbers < 0) | (numbers >= vocab)].tolist()
        if wrong:
            return f"{what} {wrong[0]} is not in the vocabulary, 0 to {vocab - 1}"
    return ""


def _equal(batch: Batch, other: Batch) -> bool:
    return all(
        (a is None) == (b is None) and (a is None or b is None or torch.equal(a, b))
        for a, b in zip(batch, other, strict=True)
    )


def _rows(batch: Batch) -> Iterator[bytes]:
    """Each row with its targets."""
    for tokens, targets_T in zip(batch.tokens_BT, batch.targets_BT, strict=True):
        yield tokens.numpy().tobytes() + targets_T.numpy().tobytes()


OF_TASKS = {
    "batches follow from seed, task and step": pure,
    "batches use up no chance of the run": uses_no_chance,
    "another seed gives other batches": seeds_differ,
    "fingerprints tell tasks apart": task_fingerprints,
    "no eval sequence is learned": task_parts,
    "batches have the shapes that models read": stream_shapes,
}
OF_SOURCES = {
    "read anew it is the same": stable,
    "draws follow from their generator": follows_generator,
    "tokens are in the vocabulary": in_range,
    "no eval sequence is drawn": source_parts,
    "families part the classes": families_part,
    "tokens can be shown": shows,
}
