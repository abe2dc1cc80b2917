"""The definition of kernels/inplace/steps.py, token by token.

Shapes: B batch (lanes), N chunks, C tokens per chunk, D model width, F feed-forward width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.kernels.inplace.steps import ChunkUpdates, State


def inplace_steps_naive(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, pull_BNC: Tensor | None, updates: ChunkUpdates, state: State
) -> tuple[Tensor, State]:
    """Run the definition token by token; return what `inplace_steps` returns."""
    batch, chunks, size, _ = q_BNCF.shape
    gate_BN, hold_BN, full_BN = (x.expand(batch, -1) for x in updates[:3])
    reads, states, momenta = [], [], []
    for b in range(batch):
        s_DF, m_DF = state[0][b], state[1][b]
        for n in range(chunks):
            s_DF, m_DF = gate_BN[b, n] * s_DF, hold_BN[b, n] * m_DF
            delta_DF = torch.zeros_like(s_DF)
            for c in range(size):
                reads.append(s_DF.to(q_BNCF.dtype) @ q_BNCF[b, n, c])
                k_F, v_D = k_BNCF[b, n, c], v_BNCD[b, n, c]
                if pull_BNC is not None:
                    v_D = v_D - pull_BNC[b, n, c] * (s_DF.to(q_BNCF.dtype) @ k_F)
                delta_DF = delta_DF + torch.outer(v_D, k_F)
            if full_BN[b, n]:
                if updates.limit is not None and delta_DF.norm() > updates.limit:
                    delta_DF = delta_DF * updates.limit / delta_DF.norm()
                m_DF = updates.momentum * m_DF + delta_DF
                s_DF = s_DF + m_DF
        states.append(s_DF)
        momenta.append(m_DF)
    return torch.stack(reads).unflatten(0, (batch, chunks, size)), (torch.stack(states), torch.stack(momenta))
