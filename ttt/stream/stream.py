"""The nouns of a stream: what a source, a task, a phase and a batch are. Everything in tasks/ speaks these.

Shapes: B batch (lanes), T time, V vocabulary, J tasks, P phases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from ttt.stream.layout import Layout

IGNORE = -100
Ints = NDArray[np.int64]


class Batch(NamedTuple):
    """`tokens_BT` int64; `targets_BT` int64, IGNORE = not scored; `segment_BT` document index.

    A source may give vectors in place of tokens: `tokens_BT` then is [B, T, X] of float32.
    A negative document is padding; it lies between documents, not inside one.
    `outputs_BV`: which outputs compete for the scored tokens of a row; None = all of them.
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    segment_BT: Tensor
    outputs_BV: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        if self.tokens_BT.device == device:
            return self
        return self._each(lambda x: x.to(device, non_blocking=True))

    def rows(self, start: int, stop: int) -> Batch:
        return self._each(lambda x: x[start:stop])

    def cut(self, rows: int) -> list[Batch]:
        """All its rows as batches of `rows` each, which share its memory."""
        parts = [x.split(rows) for x in self if x is not None]
        return [Batch(*found) for found in zip(*parts, strict=True)]

    def pick(self, index: Ints) -> Batch:
        """The rows that `index` names, in its order."""
        chosen = torch.from_numpy(index)
        return self._each(lambda x: x[chosen])

    def share(self, rank: int, *, of: int) -> Batch:
        """The rows that one of several devices takes; all shares together are the batch."""
        return self._each(lambda x: x[rank::of])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        outputs_BV = None if self.outputs_BV is None else change(self.outputs_BV)
        return Batch(change(self.tokens_BT), change(self.targets_BT), change(self.segment_BT), outputs_BV)

    @staticmethod
    def stack(parts: Sequence[Batch]) -> Batch:
        """The rows of several batches as one."""
        if len(parts) == 1:
            return parts[0]
        outputs = [part.outputs_BV for part in parts if part.outputs_BV is not None]
        assert len(outputs) in (0, len(parts)), "rows that limit their outputs do not stack with rows that do not"
        tokens_BT = torch.cat([part.tokens_BT for part in parts])
        targets_BT = torch.cat([part.targets_BT for part in parts])
        segment_BT = torch.cat([part.segment_BT for part in parts])
        return Batch(tokens_BT, targets_BT, segment_BT, torch.cat(outputs) if outputs else None)

    @property
    def num_tokens(self) -> int:
        return self.segment_BT.numel()


def whole_rows(tokens: np.ndarray, targets: np.ndarray) -> Batch:
    """A batch whose rows hold one document each."""
    tokens_BT = torch.from_numpy(tokens if tokens.dtype == np.float32 else tokens.astype(np.int64))
    targets_BT = torch.from_numpy(targets.astype(np.int64))
    return Batch(tokens_BT, targets_BT, torch.zeros_like(targets_BT))


class Source(Protocol):
    """Where sequences come from: classes (languages, digits, worlds), each with a train and an eval part.

    What it says of itself decides which streams can cut it:
    `example_len`   tokens of one example before its label; None for running text, which has no labels
    `vector_size`   numbers in a vector where examples are vectors (one position each); None where they are tokens
    `labels`        tokens that are labels, one for each class
    `symbols`       tokens that a cipher may permute
    `rows`          what it holds, in its own units ("train bytes": 4321, ...); empty where it is made up as asked
    """

    name: str
    vocab_size: int
    fingerprint: str
    example_len: int | None
    vector_size: int | None
    labels: range
    symbols: range
    rows: dict[str, int]

    def families(self) -> Sequence[Sequence[int]]:
        """Classes grouped so that only classes of one family share content."""
        ...

    def class_name(self, index: int) -> str: ...

    def draw(self, classes: Ints, *, rows: int, length: int, rng: np.random.Generator) -> Batch:
        """`rows` training sequences of at most `length` tokens, each (or each example in it) of one of `classes`."""
        ...

    def evaluation(self, classes: Ints, *, rows: int, length: int) -> Batch:
        """`rows` fixed sequences from the eval parts of `classes`, evenly."""
        ...

    def eval_examples(self, classes: Ints) -> int | None:
        """How many examples the eval parts of `classes` hold; None for running text."""
        ...

    def units(self, classes: Ints, *, length: int) -> Ints | None:
        """Names of all train pieces that one pass reads once; None where there is no end to them."""
        ...

    def take(self, units: Ints, *, length: int) -> Batch:
        """The sequences made of some units, [B, units in a sequence]."""
        ...

    def per_row(self, *, length: int) -> int:
        """Units in a sequence of `length` tokens."""
        ...

    def entropy(self, classes: Ints) -> float:
        """Bits that the best predictor needs for a scored token of `classes`; NaN where nobody knows."""
        ...

    def show(self, tokens: Ints) -> str:
        """Tokens as a person would want to see them."""
        ...


class Task(Protocol):
    """One stationary distribution of token sequences. Content is a pure function of (seed, task, step).

    `entropy`: bits that the best predictor needs for a scored token; NaN where unknown.
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

    `task` is the column it teaches (most). `announced`: is the learner told where it begins and ends?
    """

    name: str
    task: int
    steps: int
    batch: Callable[[int], Batch]
    announced: bool = True


@dataclass(frozen=True)
class Stream:
    """Tasks (what is measured) and phases (what is learned, in order), after the base distribution before them.

    `scenario`: which outputs compete (task | domain | class). `base` is None where no data is left for it.
    """

    base: Task | None
    tasks: Sequence[Task]
    phases: Sequence[Phase]
    vocab_size: int
    seq_len: int
    scenario: str
    # Tokens as a person would want to see them.
    show: Callable[[Ints], str]
    # Numbers in a vector, where vectors stand in place of tokens.
    vector_size: int | None = None
    # Where tasks are problems with a verifiable answer.
    layout: Layout | None = None

    @property
    def learned_at(self) -> Ints:
        """For each task the row of R after the first phase that teaches it."""
        first: dict[int, int] = {}
        for row, phase in enumerate(self.phases, start=1):
            first.setdefault(phase.task, row)
        return np.array([first[j] for j in range(len(self.tasks))])

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


def spread(count: int, *, over: int) -> Ints:
    """`count` indices below `over`, evenly; with more places than `over`, each in turn as often as fits."""
    if count <= over:
        return np.linspace(0, over - 1, count).astype(np.int64)
    return np.repeat(np.arange(over), [len(part) for part in np.array_split(np.arange(count), over)])
