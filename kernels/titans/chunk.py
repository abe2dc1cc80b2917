"""Titans with a linear memory: the delta rule with momentum and forgetting, all gradients at the chunk's start.

    u_c = v_c - S_start k_c;  m = mu_c m + theta_c u_c k_c^T;  S = (1 - alpha_c) S + m;  o_c = S q_c

Titans (arXiv 2501.00663), section 3.2, update then apply. An empty cell changes nothing. A chunk that is not
closed keeps its start, so a reader can go on in the middle of it.
Shapes: B lanes times heads, N chunks, C cells a chunk, K key width, V value width, J = 2 K, G = 3 K.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ttt.kernels.delta.chunk import products_between, state_dtype


class TitansState(NamedTuple):
    """What a reader carries on: the memory its chunk started from, the memory, and its momentum."""

    start_BVK: Tensor
    memory_BVK: Tensor
    momentum_BVK: Tensor


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
    """The definition, cell by cell: what was read, [B, N, C, V], and the last state.

    A chunk that `opens_BN` returns to `initial_BVK` without momentum; one that `closes_BN` hands its memory on.
    """
    dtype = state_dtype(q_BNCK)
    q_BNCK1, k_BNCK1, v_BNCV1 = (x.to(dtype).unsqueeze(-1) for x in (q_BNCK, k_BNCK, v_BNCV))
    theta_BNC11, mu_BNC11, alpha_BNC11 = (x.to(dtype)[..., None, None] for x in (theta_BNC, mu_BNC, alpha_BNC))
    start_BVK, memory_BVK, momentum_BVK = (x.to(dtype) for x in state)
    reads = []
    with torch.autocast(q_BNCK.device.type, enabled=False):
        for n in range(q_BNCK.shape[1]):
            opens_B11, closes_B11 = opens_BN[:, n, None, None], closes_BN[:, n, None, None]
            start_BVK = torch.where(opens_B11, initial_BVK, start_BVK)
            memory_BVK = torch.where(opens_B11, initial_BVK, memory_BVK)
            momentum_BVK = torch.where(opens_B11, 0.0, momentum_BVK)
            for c in range(q_BNCK.shape[2]):
                token_B11 = token_BNC[:, n, c, None, None]
                k_BK1 = k_BNCK1[:, n, c]
                u_BV1 = v_BNCV1[:, n, c] - start_BVK @ k_BK1
                pushed_BVK = mu_BNC11[:, n, c] * momentum_BVK + theta_BNC11[:, n, c] * u_BV1 * k_BK1.mT
                written_BVK = (1 - alpha_BNC11[:, n, c]) * memory_BVK + pushed_BVK
                momentum_BVK = torch.where(token_B11, pushed_BVK, momentum_BVK)
                memory_BVK = torch.where(token_B11, written_BVK, memory_BVK)
                reads.append((memory_BVK @ q_BNCK1[:, n, c])[..., 0])
            start_BVK = torch.where(closes_B11, memory_BVK, start_BVK)
    o_BNCV = torch.stack(reads, dim=1).unflatten(1, q_BNCK.shape[1:3])
    return o_BNCV.to(q_BNCK.dtype), TitansState(start_BVK, memory_BVK, momentum_BVK)


def titans_chunk(
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
    """The same, sequential over chunks only: inside one, all is linear in the state before it (see `CellWeights`).

    o_c = keep_c S q_c + roll_c m q_c + sum_{i<=c} write[c, i] (v_i - S_start k_i) (k_i . q_c)
    """
    dtype = state_dtype(q_BNCK)
    inputs = (x.to(dtype) for x in (q_BNCK, k_BNCK, v_BNCV, theta_BNC, mu_BNC, alpha_BNC, initial_BVK))
    with torch.autocast(q_BNCK.device.type, enabled=False):
        read_BNCK, k_BNCK, v_BNCV, theta_BNC, mu_BNC, alpha_BNC, initial_BVK = inputs
        weights = cell_weights(theta_BNC, mu_BNC=mu_BNC, alpha_BNC=alpha_BNC, token_BNC=token_BNC)
        write_BNCC, push_BNCC, keep_BNC1, roll_BNC1, left_BNC1 = weights
        # What a chunk adds to memory and momentum, and what its start takes of that, need no state.
        written_BNCJ = torch.cat([x_BNCC[..., -1, :, None] * k_BNCK for x_BNCC in (write_BNCC, push_BNCC)], dim=-1)
        add_BNVJ, take_BNKJ = v_BNCV.mT @ written_BNCJ, k_BNCK.mT @ written_BNCJ
        left = [x_BNC1[..., -1:, :].unbind(1) for x_BNC1 in (keep_BNC1, roll_BNC1, left_BNC1)]
        flags = [x_BN[..., None, None].unbind(1) for x_BN in (opens_BN, closes_BN)]
        fresh_BVG = torch.cat([initial_BVK, initial_BVK, torch.zeros_like(initial_BVK)], dim=-1)
        carry_BVG = torch.cat([x.to(dtype) for x in state], dim=-1)
        before = []
        for add_BVJ, take_BKJ, keep_B11, roll_B11, left_B11, opens_B11, closes_B11 in zip(
            add_BNVJ.unbind(1), take_BNKJ.unbind(1), *left, *flags, strict=True
        ):
            before.append(torch.where(opens_B11, fresh_BVG, carry_BVG))
            start_BVK, memory_BVK, momentum_BVK = before[-1].chunk(3, dim=-1)
            wrote_BVK, pushed_BVK = torch.baddbmm(add_BVJ, start_BVK, take_BKJ, alpha=-1).chunk(2, dim=-1)
            memory_BVK = keep_B11 * memory_BVK + roll_B11 * momentum_BVK + wrote_BVK
            start_BVK = torch.where(closes_B11, memory_BVK, start_BVK)
            carry_BVG = torch.cat([start_BVK, memory_BVK, left_B11 * momentum_BVK + pushed_BVK], dim=-1)
        score_BNCC = write_BNCC * (read_BNCK @ k_BNCK.mT)
        query = [-score_BNCC @ k_BNCK, keep_BNC1 * read_BNCK, roll_BNC1 * read_BNCK]
        o_BNCV = score_BNCC @ v_BNCV + torch.cat(query, dim=-1) @ torch.stack(before, dim=1).mT
    return o_BNCV.to(q_BNCK.dtype), TitansState(*carry_BVG.chunk(3, dim=-1))


class CellWeights(NamedTuple):
    """How much of what came before is in each cell c of a chunk.

    `write_BNCC[c, i]`, `push_BNCC[c, i]`: of the gradient step at cell i, in the memory and in the momentum;
    `keep_BNC1`, `roll_BNC1`: of the memory and of the momentum before the chunk, in the memory;
    `left_BNC1`: of the momentum before the chunk, in the momentum.
    """

    write_BNCC: Tensor
    push_BNCC: Tensor
    keep_BNC1: Tensor
    roll_BNC1: Tensor
    left_BNC1: Tensor


def cell_weights(theta_BNC: Tensor, *, mu_BNC: Tensor, alpha_BNC: Tensor, token_BNC: Tensor) -> CellWeights:
    """With M and A the products of mu and of 1 - alpha between two cells: push = M theta, write = A push."""
    gates = torch.where(token_BNC, torch.stack([mu_BNC, 1 - alpha_BNC]), 1.0)
    products = products_between(gates)
    left_BNC1, keep_BNC1 = (products[..., :1] * gates[..., :1, None]).unbind(0)
    push_BNCC = products[0] * torch.where(token_BNC, theta_BNC, 0.0)[..., None, :]
    # An empty cell does not add the momentum to the memory.
    decay_BNCC = products[1] * token_BNC[..., None, :]
    write_BNCC, roll_BNC1 = (decay_BNCC @ torch.cat([push_BNCC, left_BNC1], dim=-1)).split([theta_BNC.shape[-1], 1], -1)
    return CellWeights(write_BNCC, push_BNCC, keep_BNC1, roll_BNC1, left_BNC1)
