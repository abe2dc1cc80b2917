"""Gates: the scan over chunks that every decaying memory shares, and products between cells.

    before_n = gate_n * after_{n-1};  after_n = before_n + delta_n

Shapes: B batch (lanes), N chunks, C cells of a chunk, X any shape.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gated_scan(delta_BNX: Tensor, *, gate_BN: Tensor, start_BX: Tensor) -> tuple[Tensor, Tensor]:
    """Return all `before_n` [B, N, X] and the last `after` [B, X].

    The scan is exclusive: chunk n does not see its own delta. Sums are in the dtype of `start_BX`.
    """
    before = []
    state_BX = start_BX
    shape = (-1,) + (1,) * (start_BX.dim() - 1)
    for gate_B, delta_BX in zip(gate_BN.unbind(1), delta_BNX.unbind(1), strict=True):
        state_BX = gate_B.view(shape) * state_BX
        before.append(state_BX)
        state_BX = state_BX + delta_BX
    return torch.stack(before, dim=1), state_BX


def products_between(gate_XC: Tensor) -> Tensor:
    """[..., C] -> [..., C, C]: at [t, i] the product of the gates after i up to t.

    The product is 1 at i = t and 0 above the diagonal.
    """
    eye_CC = torch.eye(gate_XC.shape[-1], dtype=gate_XC.dtype, device=gate_XC.device)
    row_XC = torch.zeros_like(gate_XC)
    rows = []
    # Row by row: the usual ratios of cumulative products, or differences of logarithms, break at a
    # gate of zero, which starts a document. Here zeros, and their gradients, are exact.
    for gate_X1, eye_C in zip(gate_XC.split(1, dim=-1), eye_CC, strict=True):
        row_XC = torch.addcmul(eye_C, gate_X1, row_XC)
        rows.append(row_XC)
    return torch.stack(rows, dim=-2)
