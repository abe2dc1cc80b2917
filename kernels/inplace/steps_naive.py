"""The definition of kernels/inplace/steps.py, token by token.

Shapes: B batch (lanes), N chunks, C tokens per chunk, D model width, F feed-forward width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.kernels.inplace.norms import ITERATIONS, LEAST
from ttt.kernels.inplace.steps import ChunkUpdates, RowNorms, State


def inplace_steps_naive(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, pull_BNC: Tensor | None, updates: ChunkUpdates, state: State,
    rows: RowNorms | None = None,
) -> tuple[Tensor, State]:  # fmt: skip
    """Run the definition token by token; return what `inplace_steps` returns."""
    batch, chunks, size, _ = q_BNCF.shape
    gate_BN, hold_BN, full_BN = (x.expand(batch, -1) for x in updates[:3])
    reads, states, momenta = [], [], []
    for b in range(batch):
        s_DF, m_DF = state[0][b], state[1][b]
        for n in range(chunks):
            s_DF, m_DF = gate_BN[b, n] * s_DF, hold_BN[b, n] * m_DF
            errors = []
            for c in range(size):
                read_D = s_DF.to(q_BNCF.dtype) @ q_BNCF[b, n, c]
                reads.append(read_D if rows is None else _rescaled(rows.plain_BNCD[b, n, c] + read_D, rows, s_DF))
                v_D = v_BNCD[b, n, c]
                if pull_BNC is not None:
                    v_D = v_D - pull_BNC[b, n, c] * (s_DF.to(q_BNCF.dtype) @ k_BNCF[b, n, c])
                errors.append(v_D)
            if full_BN[b, n]:
                delta_DF = _written(k_BNCF[b, n], torch.stack(errors), updates)
                if updates.limit is not None and delta_DF.norm() > updates.limit:
                    delta_DF = delta_DF * updates.limit / delta_DF.norm()
                m_DF = updates.momentum * m_DF + delta_DF
                s_DF = s_DF + m_DF
        states.append(s_DF)
        momenta.append(m_DF)
    return torch.stack(reads).unflatten(0, (batch, chunks, size)), (torch.stack(states), torch.stack(momenta))


def _rescaled(read_D: Tensor, rows: RowNorms, s_DF: Tensor) -> Tensor:
    ratios = [w_F.norm() / (w_F + s_F).norm() for w_F, s_F in zip(rows.weight_DF, s_DF, strict=True)]
    return torch.stack(ratios) * read_D


def _written(k_CF: Tensor, error_CD: Tensor, updates: ChunkUpdates) -> Tensor:
    """Return the write of one chunk before clipping, with the inverse and the norm as defined."""
    if updates.ridge is not None:
        gram_CC = k_CF @ k_CF.T + updates.ridge * torch.eye(len(k_CF), dtype=k_CF.dtype)
        return updates.size * error_CD.T @ torch.linalg.inv(gram_CC) @ k_CF
    sum_DF = torch.zeros(error_CD.shape[1], k_CF.shape[1], dtype=k_CF.dtype)
    for k_F, error_D in zip(k_CF, error_CD, strict=True):
        sum_DF = sum_DF + torch.outer(error_D, k_F)
    return sum_DF * updates.size / spectral_norm_naive(sum_DF) if updates.spectral else sum_DF


def spectral_norm_naive(m_DF: Tensor) -> Tensor:
    """The power iterations of `spectral_norm` on the matrix itself."""
    right_F = m_DF.mean(0)
    for _ in range(ITERATIONS):
        left_D = m_DF @ (right_F / right_F.norm())
        right_F = m_DF.T @ (left_D / left_D.norm())
    return (left_D / left_D.norm() @ m_DF @ (right_F / right_F.norm())).clamp(min=LEAST)
