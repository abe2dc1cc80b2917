"""The pace of the slow weights: when they step, and at which share of their learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from annotated_types import Ge


class Pace:
    """Arguments are explained in conf/pace.yaml, which every optimizer includes."""

    def __init__(
        self,
        *,
        slow_every: Annotated[int, Ge(1)] = 1,
        schedule: Literal["constant", "linear", "cosine"] = "constant",
        over: Literal["task", "stream"] = "task",
        warmup: Annotated[int, Ge(0)] = 0,
        reset: Literal["never", "task"] = "never",
    ) -> None:
        self.slow_every, self.schedule, self.over = slow_every, schedule, over
        self.warmup, self.reset = warmup, reset

    @property
    def is_constant(self) -> bool:
        return self.schedule == "constant" and not self.warmup

    def factor(self, step: int, *, of: int) -> float:
        """The share of the learning rate at a step (from 0) of a task or stream of `of` steps."""
        if step < self.warmup:
            # The share is never zero: the first step moves something too.
            return (step + 1) / self.warmup
        if self.schedule == "constant":
            return 1.0
        done = (step - self.warmup) / max(of - self.warmup, 1)
        return 1 - done if self.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2

    def group(self, step: int, *, of: int) -> int:
        """How many batches share the optimizer step of this batch (from 0) of a task."""
        # The last group of a task has fewer batches where `slow_every` does not divide its steps.
        first = step - step % self.slow_every
        return min(self.slow_every, of - first)

    def is_due(self, step: int, *, of: int) -> bool:
        """Does the optimizer step after this batch?

        The last batches of a task never wait for the next task.
        """
        return (step + 1) % self.slow_every == 0 or step + 1 == of

    def rate(self, *, before: int, steps: int, of: int) -> Callable[[int], float] | None:
        """The share of the learning rate at each step of a phase of `steps`, after `before` of all
        `of` steps.

        None where it is 1 throughout: the inner loop then never touches the optimizer's rates.
        """
        if self.is_constant:
            return None
        if self.over == "task":
            return lambda step: self.factor(step, of=steps)
        return lambda step: self.factor(before + step, of=of)
