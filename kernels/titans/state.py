"""What a reader of Titans carries on.

Shapes: B lanes times heads, K key width, V value width.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class TitansState(NamedTuple):
    """The memory from which the open chunk started, the memory now, and its momentum."""

    start_BVK: Tensor
    memory_BVK: Tensor
    momentum_BVK: Tensor
