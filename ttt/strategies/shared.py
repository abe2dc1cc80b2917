"""What several strategies use: bounds of arguments, random numbers, a check, lists of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from ttt.stream import Stream

Coefficient = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
AtLeastOne = Annotated[int, Ge(1)]


def key_of(stream: Stream) -> int:
    """A key for random numbers; it changes with the run's seed, because the tasks do."""
    # 48 bits of a hash, which fit a seed of 64.
    return int(stream.tasks[0].fingerprint[:12], 16)


def generator(stream: Stream, *place: int, device: torch.device | None = None) -> torch.Generator:
    """A generator that depends only on the stream and a place in it (task, step, ...).

    It has no state that a checkpoint would have to hold.
    """
    seed = key_of(stream)
    for number in place:
        # A large prime keeps (task 1, step 2) and (task 2, step 1) apart.
        seed = seed * 1_000_003 + number
    return torch.Generator(device or torch.device("cpu")).manual_seed(seed % 2**63)


def check_tasks(stream: Stream, *, name: str) -> None:
    """Raise ValueError for a stream that never says where a task ends."""
    if not any(phase.announced for phase in stream.phases):
        raise ValueError(f"strategy={name}: needs tasks that are announced, and this stream announces none")


def list_state(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """A list of tensors as entries of a checkpoint: `name.0`, `name.1`, ..."""
    return {f"{name}.{i}": tensor for i, tensor in enumerate(tensors)}


def list_from_state(name: str, state: dict[str, Tensor], *, like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `list_state`, on the devices of `like`; empty where nothing was saved."""
    if f"{name}.0" not in state:
        return []
    return [state[f"{name}.{i}"].to(tensor.device) for i, tensor in enumerate(like)]
