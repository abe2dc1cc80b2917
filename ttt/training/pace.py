"""How fast the slow weights move: when they step, and at which share of their learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

SCHEDULES = ("constant", "linear", "cosine")
SCOPES = ("task", "stream")
RESETS = ("never", "task")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Arguments are explained in conf/pace.yaml, which every optimizer includes."""

    slow_every: int = 1
    schedule: str = "constant"
    over: str = "task"
    warmup: int = 0
    reset: str = "never"

    def __post_init__(self) -> None:
        for argument, value, allowed in (
            ("schedule", self.schedule, SCHEDULES),
            ("over", self.over, SCOPES),
            ("reset", self.reset, RESETS),
        ):
            if value not in allowed:
                raise ValueError(f"optimizer.{argument}={value}: must be one of {', '.join(allowed)}")
        for argument, number, least in (("slow_every", self.slow_every, 1), ("warmup", self.warmup, 0)):
            if number < least:
                raise ValueError(f"optimizer.{argument}={number}: must be at least {least}")

    @property
    def is_constant(self) -> bool:
        return self.schedule == "constant" and not self.warmup

    def factor(self, step: int, *, of: int) -> float:
        """Share of the learning rate at a step (from 0) of the task or the stream, which has `of` steps."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.schedule == "constant":
            return 1.0
        done = (step - self.warmup) / max(of - self.warmup, 1)
        return 1 - done if self.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2

    def group(self, step: int, *, of: int) -> int:
        """How many batches share the optimizer step that this batch (from 0) of a task belongs to."""
        first = step - step % self.slow_every
        return min(self.slow_every, of - first)

    def is_due(self, step: int, *, of: int) -> bool:
        """Does the optimizer step after this batch? The last ones of a task never wait for the next."""
        return (step + 1) % self.slow_every == 0 or step + 1 == of


def rate_of(pace: Pace, *, before: int, steps: int, of: int) -> Callable[[int], float] | None:
    """The share of the learning rate at each step of a phase that begins after `before` of all `of` steps.

    None: all of it, always.
    """
    if pace.is_constant:
        return None
    if pace.over == "task":
        return lambda step: pace.factor(step, of=steps)
    return lambda step: pace.factor(before + step, of=of)
