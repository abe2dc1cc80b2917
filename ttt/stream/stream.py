"""The nouns of a stream: source, task, phase and stream. Everything in tasks/ speaks these.

Shapes: B batch (lanes), T time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from ttt.stream.batch import Batch, Ints
from ttt.stream.layout import Layout


class Source(Protocol):
    """Where sequences come from: classes (languages, digits, worlds) with a train and an eval part.

    Its attributes decide which streams can be cut from it:
    `example_len`   tokens of an example before its label; None for running text, without labels
    `vector_size`   numbers in a vector where examples are vectors (one position each); else None
    `labels`        tokens that are labels, one for each class
    `symbols`       tokens that a cipher may permute
    `token_bytes`   how many bytes of UTF-8 each token stands for [V]; None where tokens are no text
    `rows`          what the source holds in its own units ("train bytes": 4321, ...); empty where
                    sequences are generated
    """

    name: str
    vocab_size: int
    fingerprint: str
    example_len: int | None
    vector_size: int | None
    symbols: range
    token_bytes: Ints | None
    rows: dict[str, int]

    # A property, since most sources have a range.
    @property
    def labels(self) -> Sequence[int]: ...

    def families(self) -> Sequence[Sequence[int]]:
        """Group the classes so that only classes of one family share content."""
        ...

    def class_name(self, index: int) -> str: ...

    def draw(self, classes: Ints, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        """Draw `rows` training sequences of at most `length` tokens.

        Each sequence, or each example in a sequence, is of one of `classes`.
        """
        ...

    def evaluation(self, classes: Ints, *, rows: int, length: int) -> Batch:
        """Return `rows` fixed sequences from the eval parts of `classes`, evenly."""
        ...

    def eval_examples(self, classes: Ints) -> int | None:
        """Count the examples in the eval parts of `classes`; None for running text."""
        ...

    def units(self, classes: Ints, *, length: int) -> Ints | None:
        """Return the train pieces that one pass reads, as numbers; None if they never end."""
        ...

    def take(self, units: Ints, *, length: int) -> Batch:
        """Return the sequences of some units [B, units in a sequence]."""
        ...

    def per_row(self, *, length: int) -> int:
        """Return how many units a sequence of `length` tokens holds."""
        ...

    def entropy(self, classes: Ints) -> float:
        """Return the bits that the best predictor needs for a scored token; NaN if unknown."""
        ...

    def show(self, tokens: Ints) -> str:
        """Return tokens as a person would want to see them."""
        ...


@runtime_checkable
class Tagged(Protocol):
    """A source that says of what kind its classes are, so that metrics can be split by it.

    A task that is cut from such a source has `tags` too.
    """

    def tags(self, index: int) -> Mapping[str, str]:
        """Return the kinds of a class by their names: {"script": "Greek"}."""
        ...


@runtime_checkable
class HasAnswers(Protocol):
    """A source of prompts and answers; `answers`: has any of these several tokens?"""

    answers: bool


class Task(Protocol):
    """One stationary distribution of sequences; a batch depends on (seed, task, step) alone.

    `entropy`: bits that the best predictor needs for a scored token; NaN if unknown.
    """

    name: str
    fingerprint: str

    @property
    def entropy(self) -> float: ...

    def batch(self, step: int) -> Batch: ...

    def evaluation(self) -> Batch: ...


@dataclass(frozen=True)
class Phase:
    """What is learned between two rows of R: `steps` batches, each a pure function of its step.

    `task`       the column of R that the phase teaches most
    `announced`  whether the learner may know where the phase begins and ends
    """

    name: str
    task: int
    steps: int
    batch: Callable[[int], Batch]
    # False for streams without boundaries: fast weights are not reset, strategies hear of no end.
    announced: bool = True


@dataclass(frozen=True)
class Stream:
    """What is learned before the stream (`base`), in it (`phases`), and what is measured (`tasks`).

    `base`         the distribution before the stream; None where no data is left for it
    `scenario`     which outputs compete: task, domain or class
    `show`         returns tokens as a person would want to see them
    `vector_size`  numbers in a vector, where vectors stand in place of tokens
    `layout`       where tasks are problems with a verifiable answer
    `token_bytes`  how many bytes of UTF-8 each token stands for [V]; None where tokens are no text
    `answers`      whether scored tokens form answers, some of several tokens
    """

    base: Task | None
    tasks: Sequence[Task]
    phases: Sequence[Phase]
    vocab_size: int
    seq_len: int
    scenario: str
    show: Callable[[Ints], str]
    vector_size: int | None = None
    layout: Layout | None = None
    token_bytes: Ints | None = None
    answers: bool = False

    @property
    def learned_at(self) -> Ints:
        """For each task, the row of R after the first phase that teaches it."""
        first: dict[int, int] = {}
        # Row 0 of R is measured before the first phase.
        for row, phase in enumerate(self.phases, start=1):
            first.setdefault(phase.task, row)
        return np.array([first[j] for j in range(len(self.tasks))])

    @property
    def steps(self) -> int:
        """Batches of the whole stream."""
        return sum(phase.steps for phase in self.phases)
