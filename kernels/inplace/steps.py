"""In-place memories whose writes depend on what the memory already holds.

These are error correction, ridge regression, momentum, clipping and norms:

    S_n = g_n P_{n-1}                                  what chunk n reads
    o_c = S_n q_c, or r * (W0 + S_n) q_c               r: each row has the norm of W0's row
    D_n = sum_c v_c k_c^T - w_c (S_n k_c) k_c^T        what it wants to write (w = 0: plain Hebb)
    D_n <- D_n eta / |D_n|_2                           with `spectral`
    D_n <- D_n min(1, limit / |D_n|)
    m_n = mu g'_n m_{n-1} + D_n                        g' = 0 where a document opens
    P_n = S_n + m_n                                    where the chunk is full

The delta rule takes v = eta v, w = eta; normalised least mean squares divides both by
lambda + |k|^2. The error against the whole map is v - w W0 k in the place of v. With `ridge`,
D_n = eta times the best fit of the errors v_c - w_c S_n k_c (kernels/inplace/ridge.py).
kernels/inplace/steps_naive.py has the definition in code.
Shapes: B batch (lanes), N chunks, C tokens per chunk, D model width, F feed-forward width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ttt.kernels.inplace.gates import group_size
from ttt.kernels.inplace.norms import row_scale, spectral_norm
from ttt.kernels.inplace.ridge import ridge_write


class ChunkUpdates(NamedTuple):
    """How each chunk changes state and momentum.

    `gate_BN` acts on the state and `hold_BN` on the momentum; 0 resets. Where `full_BN` does not
    hold, the chunk writes nothing. `ridge` is lambda (None: no fit). `size` is eta, by which a
    ridge write or one of spectral norm 1 is multiplied; other rules hold it in their factors.
    """

    gate_BN: Tensor
    hold_BN: Tensor
    full_BN: Tensor
    momentum: float
    limit: Tensor | None
    ridge: float | None = None
    spectral: bool = False
    size: Tensor | float = 1.0

    def part(self, span: slice) -> ChunkUpdates:
        """Return the updates of some chunks."""
        gate_BN, hold_BN, full_BN = (x[:, span] for x in self[:3])
        return self._replace(gate_BN=gate_BN, hold_BN=hold_BN, full_BN=full_BN)


class RowNorms(NamedTuple):
    """What a read needs that keeps row norms: W0, and W0 q of every token."""

    weight_DF: Tensor
    plain_BNCD: Tensor


# S and m.
State = tuple[Tensor, Tensor]


def inplace_steps(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, pull_BNC: Tensor | None, updates: ChunkUpdates, state: State,
    rows: RowNorms | None = None,
) -> tuple[Tensor, State]:  # fmt: skip
    """Return what was read, [B, N, C, D], and the last (S, m), fp32; `pull_BNC` is w (None: 0).

    With `rows`, W0 q is part of what was read.
    """
    # Such writes are not associative, so chunk follows chunk. Instead of every state, the backward
    # pass keeps one for each group of chunks and computes the group again.
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
            updates.part(span),
            None if rows is None else rows._replace(plain_BNCD=rows.plain_BNCD[:, span]),
        )
        if torch.is_grad_enabled() and group > 1:
            read_BNCD, *new = checkpoint(_chunks, *part, *state, use_reentrant=False)
        else:
            read_BNCD, *new = _chunks(*part, *state)
        reads.append(read_BNCD)
        state = (new[0], new[1])
    return torch.cat(reads, 1), state


def _chunks(
    q_BNCF: Tensor, k_BNCF: Tensor, v_BNCD: Tensor, pull_BNC: Tensor | None, updates: ChunkUpdates,
    rows: RowNorms | None, s_BDF: Tensor, m_BDF: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Run one group of chunks; return what was read, and the last S and m."""
    reads = []
    # A fit is expensive: chunks that no lane writes go without.
    written = updates.full_BN.any(0).tolist() if updates.ridge is not None else None
    for n, (q_BCF, k_BCF, v_BCD) in enumerate(zip(q_BNCF.unbind(1), k_BNCF.unbind(1), v_BNCD.unbind(1), strict=True)):
        s_BDF = updates.gate_BN[:, n, None, None] * s_BDF
        thin_BDF = s_BDF.to(q_BCF.dtype)
        read_BCD = q_BCF @ thin_BDF.mT
        if rows is not None:
            scale_B1D = row_scale(rows.weight_DF, s_BDF).unsqueeze(1)
            read_BCD = scale_B1D.to(read_BCD.dtype) * (rows.plain_BNCD[:, n] + read_BCD)
        reads.append(read_BCD)
        held_BDF = updates.hold_BN[:, n, None, None] * m_BDF
        if written is not None and not written[n]:
            m_BDF = held_BDF
            continue
        if pull_BNC is not None:
            v_BCD = v_BCD - pull_BNC[:, n, :, None].to(v_BCD.dtype) * (k_BCF @ thin_BDF.mT)
        delta_BDF = _delta(k_BCF, v_BCD, updates).to(s_BDF.dtype)
        if updates.limit is not None:
            norm_B11 = torch.linalg.vector_norm(delta_BDF, dim=(1, 2), keepdim=True)
            # A chunk that writes nothing has norm 0; its gradient must stay finite.
            delta_BDF = delta_BDF * (updates.limit / norm_B11.clamp(min=1e-30)).clamp(max=1.0)
        full_B11 = updates.full_BN[:, n, None, None].to(s_BDF.dtype)
        # With a weight of 0 or 1, lerp chooses without a branch, lane by lane.
        m_BDF = torch.lerp(held_BDF, updates.momentum * held_BDF + delta_BDF, full_B11)
        s_BDF = s_BDF + full_B11 * m_BDF
    return torch.stack(reads, 1), s_BDF, m_BDF


def _delta(k_BCF: Tensor, v_BCD: Tensor, updates: ChunkUpdates) -> Tensor:
    """Return what one chunk wants to write, [B, D, F], from its keys and its errors."""
    if updates.ridge is not None:
        return updates.size * ridge_write(k_BCF, v_BCD, updates.ridge)
    if updates.spectral:
        v_BCD = v_BCD * (updates.size / spectral_norm(v_BCD, k_BCF)).to(v_BCD.dtype)
    return v_BCD.mT @ k_BCF
