"""`base.blocks`: batches of one class in a row, as a stream has them, in place of mixed ones.

What a carried state holds is then of use to the next batch. In batches that mix all classes it is
not, and a base that carries states through them learns to pass over what is carried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ttt.stream import Batch, Task


@runtime_checkable
class Blocked(Protocol):
    """A base distribution whose batches can be of one class."""

    def block(self, step: int, *, of: int) -> Batch:
        """Return the batch at `step` where each `of` batches in a row are of one class."""
        ...


@dataclass(frozen=True)
class Blocks:
    """Batches of one class, `of` in a row."""

    name: str
    task: Blocked
    of: int

    def batch(self, step: int) -> Batch:
        """Return the batch at `step`."""
        return self.task.block(step, of=self.of)


def in_blocks(task: Task, *, of: int) -> Blocks:
    """Return the batches of `task` in blocks. Raises ValueError where it has no classes."""
    if not isinstance(task, Blocked):
        raise ValueError("base.blocks=true: the base of this stream has no classes; use blocks=false")
    return Blocks(task.name, task, of)
