"""The nouns of a stream: what a source, a task and a batch are. Everything in tasks/ speaks these.

Shapes: B batch (lanes), T time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

IGNORE = -100


class Batch(NamedTuple):
    """`tokens_BT` int64; `targets_BT` int64, IGNORE = not scored; `segment_BT` document index.

    A negative document is padding; it lies between documents, not inside one.
    """

    tokens_BT: Tensor
    targets_BT: Tensor
    segment_BT: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(x.to(device, non_blocking=True) for x in self))

    def rows(self, start: int, stop: int) -> Batch:
        return Batch(*(x[start:stop] for x in self))

    @staticmethod
    def stack(parts: Sequence[Batch]) -> Batch:
        """The rows of several batches as one."""
        return Batch(*(torch.cat(column) for column in zip(*parts, strict=True)))

    @property
    def num_tokens(self) -> int:
        return self.tokens_BT.numel()


def whole_rows(tokens: np.ndarray, targets: np.ndarray) -> Batch:
    """A batch whose rows hold one document each."""
    tokens_BT = torch.from_numpy(tokens.astype(np.int64))
    targets_BT = torch.from_numpy(targets.astype(np.int64))
    return Batch(tokens_BT, targets_BT, torch.zeros_like(tokens_BT))


class Source(Protocol):
    """Where sequences come from: classes (languages, worlds), each with a train and an eval part."""

    name: str
    vocab_size: int
    fingerprint: str

    def families(self) -> Sequence[Sequence[int]]:
        """Classes grouped so that only classes of one family share content."""
        ...

    def class_name(self, index: int) -> str: ...

    def draw(self, classes: np.ndarray, *, length: int, rng: np.random.Generator) -> Batch:
        """One training sequence of `length` tokens for each entry of `classes`."""
        ...

    def evaluation(self, index: int, *, count: int, length: int) -> Batch:
        """`count` fixed sequences from the eval part of one class."""
        ...


class Task(Protocol):
    """One stationary distribution of token sequences. Content is a pure function of (seed, task, step)."""

    name: str
    fingerprint: str

    def batch(self, step: int) -> Batch: ...

    def evaluation(self) -> Batch: ...


@dataclass(frozen=True)
class Stream:
    """An ordered list of tasks, after the base distribution that comes before them."""

    base: Task
    tasks: Sequence[Task]
    vocab_size: int
    seq_len: int
    steps_per_task: int
