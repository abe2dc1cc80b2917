"""In-place fast weights: the chunk-wise outer-product memory behind `mlp_fast`.

    S_n = g_n P_{n-1}            what chunk n reads (apply, then write)
    o_c = S_n q_c                for every token c of chunk n
    P_n = S_n + sum_c v_c k_c^T  what the chunk leaves behind

In-Place Test-Time Training (arXiv 2604.06169), eq. of section 3, with a gate g_n per chunk: 0
resets, 1 keeps, values between decay. The step size is folded into v. States are always fp32.
Shapes: B batch (lanes), N chunks, C tokens per chunk, D model width, F feed-forward width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.kernels.states import ReadAndState


def inplace_naive(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor
) -> ReadAndState:
    """Run the definition token by token; return what was read, [B, N, C, D], and the last state."""
    lanes = []
    states = []
    for b in range(q_BNCF.shape[0]):
        state_DF = state_BDF[b].float()
        reads = []
        for n in range(q_BNCF.shape[1]):
            state_DF = gate_BN.expand(q_BNCF.shape[0], -1)[b, n] * state_DF
            # Tokens of a chunk all read the state before it: the chunk's writes wait until its end.
            written_DF = state_DF
            for c in range(q_BNCF.shape[2]):
                reads.append(state_DF.to(q_BNCF.dtype) @ q_BNCF[b, n, c])
                written_DF = written_DF + torch.outer(v_BNCD[b, n, c], k_BNCF[b, n, c]).float()
            state_DF = written_DF
        lanes.append(torch.stack(reads).unflatten(0, q_BNCF.shape[1:3]))
        states.append(state_DF)
    return torch.stack(lanes), torch.stack(states)
