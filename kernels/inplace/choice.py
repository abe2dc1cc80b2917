"""Which form of the in-place memory to run: a cost model.

Shapes: L tokens per block, D model width, F feed-forward width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

# In half precision, moving the state through memory once per block of L tokens costs as much as the
# L (D + F) operations per token inside the block at L = this * sqrt(D F / (D + F)). Measured on a
# CPU with AMX; other hardware will differ.
BLOCK_FACTOR = 30.0
# A block of fewer chunks than this costs more than a state for each chunk, made in batches. States
# of up to CACHED_STATE numbers stay in the cache and are cheap to move, so blocks must be longer to
# pay. Measured on the same CPU.
LEAST_BLOCK, LEAST_BLOCK_CACHED, CACHED_STATE = 4, 8, 2**16


@dataclass(frozen=True)
class Choice:
    """How to compute a row: how many chunks at a time, and whether W0 is read with the state."""

    block: int
    folded: bool

    def __str__(self) -> str:
        return f"lean, {'W0 folded in' if self.folded else 'W0 apart'}, {self.block} chunk(s) at a time"


def cheapest(chunks: int, *, chunk: int, width: int, mlp_width: int, dtype: torch.dtype) -> Choice:
    """Return the cheapest form by a cost model; `ttt-bench kernels` times it against the others.

    In full precision, operations decide: a state per chunk costs 2 D F of them per token, and
    reading W0 together with the state saves one product. In half precision, moving the fp32 state
    through memory once per block decides. W0 is then read apart, because its sum with the state
    would round the state away. Blocks pay if they are long, if states are large, or if one block is
    the whole row.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return Choice(1, True)
    tokens = BLOCK_FACTOR * math.sqrt(width * mlp_width / (width + mlp_width))
    block = min(chunks, round(tokens / chunk))
    least = LEAST_BLOCK_CACHED if width * mlp_width <= CACHED_STATE else LEAST_BLOCK
    return Choice(block if block >= min(chunks, least) else 1, False)
