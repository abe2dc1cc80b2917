"""The gated scan over chunks that every decaying memory shares.

    before_n = gate_n * after_{n-1};  after_n = before_n + delta_n

Shapes: B batch (lanes), N chunks, X any state shape.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gated_scan(delta_BNX: Tensor, *, gate_BN: Tensor, start_BX: Tensor) -> tuple[Tensor, Tensor]:
    """All `before_n` [B, N, X] (exclusive: chunk n does not see its own delta), and the last `after` [B, X].

    Accumulates in the dtype of `start_BX`.
    """
    before = []
    state_BX = start_BX
    shape = (-1,) + (1,) * (start_BX.dim() - 1)
    for gate_B, delta_BX in zip(gate_BN.unbind(1), delta_BNX.unbind(1), strict=True):
        state_BX = gate_B.view(shape) * state_BX
        before.append(state_BX)
        state_BX = state_BX + delta_BX
    return torch.stack(before, dim=1), state_BX
