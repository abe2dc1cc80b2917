"""Models that can leave out the output layer where nothing is scored.

A row with 64 scored positions of 512 needs an eighth of its logits: with a vocabulary of 49,152
these are a fifth of the compute of a small model, and the peak of its memory.
Shapes: B batch (lanes), T time.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class ScoredAlone(Protocol):
    """A model with `logits_at`."""

    def logits_at(self, chosen_BT: Tensor) -> AbstractContextManager[None]:
        """While open, `forward` returns logits [N, V] of the chosen positions, row after row."""
        ...
