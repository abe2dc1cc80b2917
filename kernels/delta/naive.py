"""The gated delta rule: a matrix memory that replaces what a key held, rather than adding to it.

    S = g_t S_{t-1};  S_t = S + beta_t (v_t - S k_t) k_t^T;  o_t = S_t q_t   (update, then apply)

DeltaNet (arXiv 2406.06484) with the gate of Gated DeltaNet (arXiv 2412.06464). A gate of exactly 0
starts a document; beta = 0 with gate = 1 is padding. States and sums are fp32, or fp64
for fp64 inputs.
Shapes: B lanes times heads, T time, K key width, V value width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.kernels.states import ReadAndState, state_dtype


def delta_naive(
    q_BTK: Tensor, *, k_BTK: Tensor, v_BTV: Tensor, beta_BT: Tensor, gate_BT: Tensor, state_BVK: Tensor
) -> ReadAndState:
    """Run the definition token by token; return what was read, [B, T, V], and the last state."""
    dtype = state_dtype(q_BTK)
    state_BVK = state_BVK.to(dtype)
    reads = []
    inputs = (x.to(dtype).unbind(1) for x in (q_BTK, k_BTK, v_BTV, beta_BT[..., None], gate_BT[..., None, None]))
    # A bf16 autocast would round the states.
    with torch.autocast(q_BTK.device.type, enabled=False):
        for q_BK, k_BK, v_BV, beta_B1, gate_B11 in zip(*inputs, strict=True):
            state_BVK = gate_B11 * state_BVK
            u_BV = beta_B1 * (v_BV - (state_BVK @ k_BK[..., None])[..., 0])
            state_BVK = state_BVK + u_BV[..., None] * k_BK[:, None]
            reads.append((state_BVK @ q_BK[..., None])[..., 0])
    return torch.stack(reads, dim=1).to(q_BTK.dtype), state_BVK
