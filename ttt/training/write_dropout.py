"""Batches that are read without writes, so that mode `slow` is a model that was trained.

Whether a batch is such a batch is a pure function of the seed, the task and the step: nothing to
save, nothing to send to other devices.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Literal

import numpy as np
from annotated_types import Interval

from ttt.learner import Learner

# First in the key of the generator: no other draw shares its numbers.
DROP = 102


class WriteDropout:
    """Arguments are explained in conf/fast.yaml, which adapters include; `seed` is the run's."""

    def __init__(
        self,
        *,
        write_dropout: Annotated[float, Interval(ge=0, le=1)] = 0.0,
        write_dropout_in: Literal["base", "both"] = "base",
        seed: int = 0,
    ) -> None:
        self.share, self.where, self.seed = write_dropout, write_dropout_in, seed

    def in_stream(self) -> WriteDropout:
        """What of it acts in the stream."""
        return self if self.where == "both" else WriteDropout()

    def drops(self, task: str, step: int) -> bool:
        """Is the batch at this step of a task read without writes?"""
        # numpy takes a list of integers as one seed; the bytes of the name stand for the task.
        key = [DROP, self.seed, *task.encode(), step]
        return bool(np.random.default_rng(key).random() < self.share)

    def reading(self, learner: Learner, task: str, step: int) -> AbstractContextManager[None]:
        """While open, `learner` reads as this batch is to be read."""
        return learner.without_writes() if self.share and self.drops(task, step) else nullcontext()
