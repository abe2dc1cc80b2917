"""What readers remember, lane by lane: cut a batch into lanes, and join lanes into a batch.

A lane is what `Reader.export` returns, for one row. All lanes of a learner have the same names;
only attention's tokens differ in number, until the window is full.
Shapes: S tokens of attention, H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.adapters.base import OPEN, FastState
from ttt.learner import Learner, Reader
from ttt.learner.reader import ATTENTION, FAST
from ttt.models.cache import PADDING

Lane = dict[str, Tensor]


def empty_lane(learner: Learner, state: FastState, *, write: bool) -> Lane:
    """What a reader remembers that starts from `state` and has read nothing."""
    reader = Reader(learner, state=state, write=write)
    device = next(learner.parameters()).device
    # Padding changes nothing, and leaves every name that a reader can have.
    token_11 = torch.zeros(1, 1, dtype=torch.long, device=device)
    reader.read(token_11, segment_BT=torch.full_like(token_11, PADDING))
    return cut(reader.export(), 1)[0]


def is_memory(name: str) -> bool:
    """Is a tensor of a lane fast weights, rather than tokens of an open chunk or of attention?"""
    return name.startswith(FAST) and not name.startswith(FAST + OPEN)


def join_lanes(lanes: Sequence[Lane]) -> Lane:
    """The lanes as one batch."""
    assert all(lane.keys() == lanes[0].keys() for lane in lanes), "lanes of one learner have the same names"
    return {name: torch.cat(_same_length(name, [lane[name] for lane in lanes])) for name in lanes[0]}


def cut(tensors: Lane, count: int) -> list[Lane]:
    """The batch as `count` lanes, which share no memory with it or with each other."""
    # A tensor of one lane may be shared by all rows.
    return [
        {name: (x[i : i + 1] if len(x) > 1 else x).clone(memory_format=torch.contiguous_format) for name, x in
         tensors.items()}
        for i in range(count)
    ]  # fmt: skip


def size_of(lane: Lane) -> int:
    """Its bytes."""
    return sum(x.numel() * x.element_size() for x in lane.values())


def _same_length(name: str, parts: list[Tensor]) -> list[Tensor]:
    """Attention's tokens [1, S] or [1, H, S, K], filled up on the left with padding."""
    if not name.startswith(ATTENTION):
        return parts
    axis = 1 if parts[0].dim() == 2 else 2
    longest = max(x.shape[axis] for x in parts)
    # The mask goes by positions and documents: what lies under padding is never looked at.
    value = PADDING if axis == 1 else 0
    # F.pad counts from the last dimension on.
    below = [0, 0] * (parts[0].dim() - 1 - axis)
    return [F.pad(x, (*below, longest - x.shape[axis], 0), value=value) for x in parts]
