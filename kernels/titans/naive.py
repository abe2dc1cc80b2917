"""Titans with a linear memory: the delta rule with momentum and forgetting.

    u_c = v_c - S_start k_c;  m = mu_c m + theta_c u_c k_c^T;  S = (1 - alpha_c) S + m;  o_c = S q_c

All gradients are taken at the chunk's start, S_start. Titans (arXiv 2501.00663), section 3.2,
update then apply. An empty cell changes nothing.
Shapes: B lanes times heads, N chunks, C cells per chunk, K key width, V value width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.kernels.states import state_dtype
from ttt.kernels.titans.state import TitansState


def titans_naive(
    q_BNCK: Tensor,
    *,
    k_BNCK: Tensor,
    v_BNCV: Tensor,
    theta_BNC: Tensor,
    mu_BNC: Tensor,
    alpha_BNC: Tensor,
    token_BNC: Tensor,
    opens_BN: Tensor,
    closes_BN: Tensor,
    state: TitansState,
    initial_BVK: Tensor,
) -> tuple[Tensor, TitansState]:
    """Run the definition cell by cell; return what was read, [B, N, C, V], and the last state.

    Where `opens_BN` holds, a chunk returns to `initial_BVK` without momentum. Where `closes_BN`
    holds, its memory becomes the start of the next chunk.
    """
    dtype = state_dtype(q_BNCK)
    q_BNCK1, k_BNCK1, v_BNCV1 = (x.to(dtype).unsqueeze(-1) for x in (q_BNCK, k_BNCK, v_BNCV))
    theta_BNC11, mu_BNC11, alpha_BNC11 = (x.to(dtype)[..., None, None] for x in (theta_BNC, mu_BNC, alpha_BNC))
    start_BVK, memory_BVK, momentum_BVK = (x.to(dtype) for x in state)
    reads = []
    # A bf16 autocast would round the states.
    with torch.autocast(q_BNCK.device.type, enabled=False):
        for n in range(q_BNCK.shape[1]):
            opens_B11, closes_B11 = opens_BN[:, n, None, None], closes_BN[:, n, None, None]
            start_BVK = torch.where(opens_B11, initial_BVK, start_BVK)
            memory_BVK = torch.where(opens_B11, initial_BVK, memory_BVK)
            momentum_BVK = torch.where(opens_B11, 0.0, momentum_BVK)
            for c in range(q_BNCK.shape[2]):
                token_B11 = token_BNC[:, n, c, None, None]
                # Against the chunk's start, not the memory now: that is what makes a chunk linear.
                k_BK1 = k_BNCK1[:, n, c]
                u_BV1 = v_BNCV1[:, n, c] - start_BVK @ k_BK1
                pushed_BVK = mu_BNC11[:, n, c] * momentum_BVK + theta_BNC11[:, n, c] * u_BV1 * k_BK1.mT
                written_BVK = (1 - alpha_BNC11[:, n, c]) * memory_BVK + pushed_BVK
                momentum_BVK = torch.where(token_B11, pushed_BVK, momentum_BVK)
                memory_BVK = torch.where(token_B11, written_BVK, memory_BVK)
                reads.append((memory_BVK @ q_BNCK1[:, n, c])[..., 0])
            # A chunk that stays open keeps its start: the rest of it may come in another piece.
            start_BVK = torch.where(closes_B11, memory_BVK, start_BVK)
    o_BNCV = torch.stack(reads, dim=1).unflatten(1, q_BNCK.shape[1:3])
    return o_BNCV.to(q_BNCK.dtype), TitansState(start_BVK, memory_BVK, momentum_BVK)
