"""In-place memories whose writes depend on what is already there: error correction, momentum, clipping.

    S_n = g_n P_{n-1}                                  what chunk n reads
    D_n = sum_c v_c k_c^T - w_c (S_n k_c) k_c^T        what it wants to write (w = 0: plain Hebb)
    D_n <- D_n min(1, limit / |D_n|)
    m_n = mu g'_n m_{n-1} + D_n                        g' = 0 where a document opens
    P_n = S_n + m_n                                    where the chunk is full

The delta rule takes v = eta v, w = eta; normalised least mean squares divides both by lambda + |k|^2.
Not associative, so chunk follows chunk; groups of chunks are made again in the backward pass.
Shapes: B batch (lanes), N chunks, C tokens a chunk, D model width, F feed-forward width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ttt.kernels.inplace.gates import group_size


class Steps(NamedTuple):
    """`gate_BN` acts on the state, `hold_BN` on the momentum (0 resets); `full_BN`: the chunk is written."""

    gate_BN: Tensor
    hold_BN: Tensor
    full_BN: Tensor
    momentum: float
    limit: Tensor | None


State = tuple[Tensor, Tensor]


def inplace_steps(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, pull_BNC: Tensor | None, steps: Steps, state: State
) -> tuple[Tensor, State]:
    """What was read, [B, N, C, D], and the last (S, m), fp32; `pull_BNC` is w above (None: 0)."""
    chunks = q_BNCF.shape[1]
    group = group_size(chunks)
    reads = []
    for first in range(0, chunks, group):
        span = slice(first, first + group)
        part = (
            q_BNCF[:, span],
            k_BNCF[:, span],
            v_BNCD[:, span],
            None if pull_BNC is None else pull_BNC[:, span],
            steps._replace(
                gate_BN=steps.gate_BN[:, span], hold_BN=steps.hold_BN[:, span], full_BN=steps.full_BN[:, span]
            ),
        )
        if torch.is_grad_enabled() and group > 1:
            read_BNCD, *new = checkpoint(_chunks, *part, *state, use_reentrant=False)
        else:
            read_BNCD, *new = _chunks(*part, *state)
        reads.append(read_BNCD)
        state = (new[0], new[1])
    return torch.cat(reads, 1), state


def _chunks(
    q_BNCF: Tensor, k_BNCF: Tensor, v_BNCD: Tensor, pull_BNC: Tensor | None, steps: Steps, s_BDF: Tensor, m_BDF: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    reads = []
    for n, (q_BCF, k_BCF, v_BCD) in enumerate(zip(q_BNCF.unbind(1), k_BNCF.unbind(1), v_BNCD.unbind(1), strict=True)):
        s_BDF = steps.gate_BN[:, n, None, None] * s_BDF
        thin_BDF = s_BDF.to(q_BCF.dtype)
        reads.append(q_BCF @ thin_BDF.mT)
        if pull_BNC is not None:
            v_BCD = v_BCD - pull_BNC[:, n, :, None].to(v_BCD.dtype) * (k_BCF @ thin_BDF.mT)
        delta_BDF = (v_BCD.mT @ k_BCF).to(s_BDF.dtype)
        if steps.limit is not None:
            norm_B11 = torch.linalg.vector_norm(delta_BDF, dim=(1, 2), keepdim=True)
            delta_BDF = delta_BDF * (steps.limit / norm_B11.clamp(min=1e-30)).clamp(max=1.0)
        full_B11 = steps.full_BN[:, n, None, None].to(s_BDF.dtype)
        held_BDF = steps.hold_BN[:, n, None, None] * m_BDF
        m_BDF = torch.lerp(held_BDF, steps.momentum * held_BDF + delta_BDF, full_B11)
        s_BDF = s_BDF + full_B11 * m_BDF
    return torch.stack(reads, 1), s_BDF, m_BDF


def inplace_steps_naive(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, pull_BNC: Tensor | None, steps: Steps, state: State
) -> tuple[Tensor, State]:
    """The definition, token by token."""
    batch, chunks, size, _ = q_BNCF.shape
    gate_BN, hold_BN, full_BN = (x.expand(batch, -1) for x in steps[:3])
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
                if steps.limit is not None and delta_DF.norm() > steps.limit:
                    delta_DF = delta_DF * steps.limit / delta_DF.norm()
                m_DF = steps.momentum * m_DF + delta_DF
                s_DF = s_DF + m_DF
        states.append(s_DF)
        momenta.append(m_DF)
    return torch.stack(reads).unflatten(0, (batch, chunks, size)), (torch.stack(states), torch.stack(momenta))
