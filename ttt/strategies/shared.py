"""What several strategies check, and where their random numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import torch

from ttt.config.messages import suggest
from ttt.stream import Stream


def generator(stream: Stream, *place: int, device: torch.device | None = None) -> torch.Generator:
    """Random numbers of one place in the stream (task, step, ...): no state that a checkpoint would have to hold.

    They change with the run's seed, for tasks do.
    """
    seed = int(stream.tasks[0].fingerprint[:12], 16)
    for number in place:
        seed = seed * 1_000_003 + number
    return torch.Generator(device or torch.device("cpu")).manual_seed(seed % 2**63)


def check_tasks(stream: Stream, *, name: str) -> None:
    """Raises ValueError for a stream that never says where a task ends: nothing would be protected."""
    if not any(phase.announced for phase in stream.phases):
        raise ValueError(f"strategy={name}: needs tasks that are announced, and this stream tells of none")


def check_not_negative(value: float, *, argument: str) -> None:
    if not (value >= 0 and isfinite(value)):
        raise ValueError(f"strategy.{argument}={value:g}: must be a finite number of at least 0")


def check_least(value: int, *, argument: str, least: int) -> None:
    if value < least:
        raise ValueError(f"strategy.{argument}={value}: must be at least {least}")


def check_choice(value: str, *, argument: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ValueError(f"strategy.{argument}={value}: unknown; {suggest(value, allowed)}")
