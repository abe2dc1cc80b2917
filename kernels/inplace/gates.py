"""Products of gates over blocks of chunks, and how many states to keep: plans of the in-place memory.

Shapes: B batch (lanes), N chunks, J blocks, G chunks a block, X = B J.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ttt.kernels.scan import gated_scan

# States up to which keeping every one of them is nothing beside the keys.
KEPT_STATES = 8


Gates = list[float | Tensor]


class Weights(NamedTuple):
    """Products of gates, for each block: a, M, e and t of kernels/inplace/lean.py. Leading dimension 1: lanes are alike."""

    since_start_BJG: Tensor
    between_BJGG: Tensor
    to_end_BJG: Tensor
    whole_BJ: Tensor


def gate_weights(gate_BN: Tensor, block: int) -> Weights:
    """From the gate of every chunk to the weights of every block; a last, shorter block is filled with ones."""
    lanes, chunks = gate_BN.shape
    blocks = -(-chunks // block)
    gate_XG = torch.nn.functional.pad(gate_BN, (0, blocks * block - chunks), value=1.0).reshape(-1, block)
    eye_GG = torch.eye(block, dtype=gate_BN.dtype, device=gate_BN.device)[None]
    between_XGG, to_end_XG = gated_scan(eye_GG, gate_BN=gate_XG, start_BX=torch.zeros_like(eye_GG[:, 0]))
    since_XG = gate_XG.cumprod(1)
    parts = (since_XG, between_XGG, to_end_XG, since_XG[:, -1])
    return Weights(*(x.expand(lanes * blocks, *x.shape[1:]).unflatten(0, (lanes, blocks)) for x in parts))


def gates_of(gate_BN: Tensor) -> Gates:
    """The gate of every chunk: numbers where lanes are alike and looking at them costs nothing, else [B, 1, 1]."""
    if len(gate_BN) == 1 and gate_BN.device.type == "cpu" and not gate_BN.requires_grad:
        return gate_BN[0].tolist()
    return [*gate_BN[..., None, None].unbind(1)]


def group_size(blocks: int, *, few: int = 1) -> int:
    """Blocks for each state that is kept: about as many are kept as made again at a time; `few` of few blocks."""
    return few if blocks <= KEPT_STATES else math.ceil(math.sqrt(blocks))
