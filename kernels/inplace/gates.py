"""Products of gates over blocks of chunks, and how many states to keep.

Shapes: B batch (lanes), N chunks, J blocks, G chunks per block, X = B J.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ttt.kernels.scan import gated_scan

# Up to this many states take little memory beside the keys: keep them all.
KEPT_STATES = 8

# The gate of every chunk: a number where all lanes share it, else [B, 1, 1].
Gates = list[float | Tensor]


class GateProducts(NamedTuple):
    """Products of gates for each block: a, M, e and t of kernels/inplace/lean.py.

    The leading dimension is 1 where all lanes are alike.
    """

    since_start_BJG: Tensor
    between_BJGG: Tensor
    to_end_BJG: Tensor
    whole_BJ: Tensor


def gate_products(gate_BN: Tensor, block: int) -> GateProducts:
    """Return the products of gates of every block, from the gate of every chunk."""
    lanes, chunks = gate_BN.shape
    blocks = -(-chunks // block)
    # Gates of 1 fill a last, shorter block: they leave its products alone.
    gate_XG = torch.nn.functional.pad(gate_BN, (0, blocks * block - chunks), value=1.0).reshape(-1, block)
    # Scanning unit vectors yields, for each chunk, what is left of every earlier chunk's write.
    eye_GG = torch.eye(block, dtype=gate_BN.dtype, device=gate_BN.device)[None]
    between_XGG, to_end_XG = gated_scan(eye_GG, gate_BN=gate_XG, start_BX=torch.zeros_like(eye_GG[:, 0]))
    since_XG = gate_XG.cumprod(1)
    parts = (since_XG, between_XGG, to_end_XG, since_XG[:, -1])
    return GateProducts(*(x.expand(lanes * blocks, *x.shape[1:]).unflatten(0, (lanes, blocks)) for x in parts))


def gates_of(gate_BN: Tensor) -> Gates:
    """Return the gate of every chunk: a number where all lanes share it, else [B, 1, 1]."""
    # A number is fused into the next operation at no cost. On a GPU, reading it would wait for the
    # device; with a gradient, the graph would be cut.
    if len(gate_BN) == 1 and gate_BN.device.type == "cpu" and not gate_BN.requires_grad:
        return gate_BN[0].tolist()
    return [*gate_BN[..., None, None].unbind(1)]


def group_size(blocks: int, *, few: int = 1) -> int:
    """Return how many blocks share one kept state; `few` if there are few blocks."""
    # With sqrt(n) blocks per state, as many states are kept as are made again at a time: the least
    # sum of the two.
    return few if blocks <= KEPT_STATES else math.ceil(math.sqrt(blocks))
