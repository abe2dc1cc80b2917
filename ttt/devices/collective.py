"""Several processes as one: what the first decides, and fast states whose lanes lie on different
devices.

Lanes are dealt out like rows: lane i of a batch lies on device i mod devices, as in `Batch.share`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ttt.devices.one_device import Devices

T = TypeVar("T")
# Named tensors whose first dimension is the lane: a fast state, whoever owns it.
Lanes = dict[str, Tensor]


def decided(fabric: Devices, decide: Callable[[], T]) -> T:
    """What the first process decides, on all of them.

    A ValueError of the first process is raised on all, so that nobody waits for an answer.
    """
    answer: T | None = None
    error: ValueError | None = None
    if fabric.is_global_zero:
        try:
            answer = decide()
        except ValueError as refused:
            error = refused
    answer, error = fabric.broadcast((answer, error))
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]


def deal(state: Lanes, rank: int, *, of: int) -> Lanes:
    """Lanes that read rows `rank`, `rank + of`, ...; a state of one lane goes to every device."""
    return {name: x if len(x) == 1 else x[rank::of] for name, x in state.items()}


def collect(states: Sequence[Lanes]) -> Lanes:
    """The inverse of `deal`."""
    return {name: torch.stack([state[name] for state in states], 1).flatten(0, 1) for name in states[0]}


def mean(states: Sequence[Lanes]) -> Lanes:
    """The mean of several states of one lane each."""
    return {name: torch.stack([state[name] for state in states]).mean(0) for name in states[0]}


def mean_over_devices(fabric: Devices, state: Lanes) -> Lanes:
    return {name: over_devices(fabric, x) for name, x in state.items()}


def over_devices(fabric: Devices, x: Tensor, *, op: str = "mean") -> Tensor:
    """The mean (or sum) over devices; `x` itself stays as it is."""
    # The common case must cost nothing: it is called in the inner loop.
    if fabric.world_size == 1:
        return x
    several: Any = fabric
    reduced = several.all_reduce(x.detach().clone().to(fabric.device), reduce_op=op)
    assert isinstance(reduced, Tensor)
    return reduced


def collect_over_devices(fabric: Devices, state: Lanes) -> Lanes:
    """All lanes in row order, on every device; a state that was never written stays one lane."""
    if fabric.world_size == 1 or not state:
        return state
    several: Any = fabric
    # Every device must take part in the gathering before any of them may return.
    gathered: Any = {name: several.all_gather(x.detach()) for name, x in state.items()}
    if all(len(x) == 1 for x in state.values()) and not any(bool(x.any()) for x in gathered.values()):
        return state
    # [device, lane, ...] -> lanes in order
    return {name: x.transpose(0, 1).flatten(0, 1) for name, x in gathered.items()}
