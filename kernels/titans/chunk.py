"""Titans with a linear memory, sequential over chunks only.

Inside a chunk everything is linear in the state before the chunk (`CellWeights` has the factors):

    o_c = keep_c S q_c + roll_c m q_c + sum_{i<=c} write[c, i] (v_i - S_start k_i) (k_i . q_c)

kernels/titans/naive.py has the definition.
Shapes: B lanes times heads, N chunks, C cells per chunk, K key width, V value width, J = 2 K for
the memory and its momentum side by side, G = 3 K for start, memory and momentum side by side.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ttt.kernels.scan import products_between
from ttt.kernels.states import state_dtype
from ttt.kernels.titans.state import TitansState


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
    """Return what `titans_naive` returns, except for what empty cells read."""
    dtype = state_dtype(q_BNCK)
    inputs = (x.to(dtype) for x in (q_BNCK, k_BNCK, v_BNCV, theta_BNC, mu_BNC, alpha_BNC, initial_BVK))
    # A bf16 autocast would round the states.
    with torch.autocast(q_BNCK.device.type, enabled=False):
        read_BNCK, k_BNCK, v_BNCV, theta_BNC, mu_BNC, alpha_BNC, initial_BVK = inputs
        weights = cell_weights(theta_BNC, mu_BNC=mu_BNC, alpha_BNC=alpha_BNC, token_BNC=token_BNC)
        before_BNVG, last_BVG = _states(
            torch.cat([x.to(dtype) for x in state], dim=-1),
            fresh_BVG=torch.cat([initial_BVK, initial_BVK, torch.zeros_like(initial_BVK)], dim=-1),
            k_BNCK=k_BNCK,
            v_BNCV=v_BNCV,
            opens_BN=opens_BN,
            closes_BN=closes_BN,
            weights=weights,
        )
        score_BNCC = weights.write_BNCC * (read_BNCK @ k_BNCK.mT)
        # One product with start, memory and momentum side by side instead of three.
        query = [-score_BNCC @ k_BNCK, weights.keep_BNC1 * read_BNCK, weights.roll_BNC1 * read_BNCK]
        o_BNCV = score_BNCC @ v_BNCV + torch.cat(query, dim=-1) @ before_BNVG.mT
    return o_BNCV.to(q_BNCK.dtype), TitansState(*last_BVG.chunk(3, dim=-1))


class CellWeights(NamedTuple):
    """How much of what came before is still there at each cell c of a chunk.

    `write_BNCC[c, i]`, `push_BNCC[c, i]`: the share of the gradient step at cell i that is in the
    memory, and in the momentum. `keep_BNC1`, `roll_BNC1`: the shares of the memory and of the
    momentum before the chunk that are in the memory. `left_BNC1`: the share of the momentum before
    the chunk that is in the momentum.
    """

    write_BNCC: Tensor
    push_BNCC: Tensor
    keep_BNC1: Tensor
    roll_BNC1: Tensor
    left_BNC1: Tensor


def cell_weights(theta_BNC: Tensor, *, mu_BNC: Tensor, alpha_BNC: Tensor, token_BNC: Tensor) -> CellWeights:
    """Return the factors of every chunk: push = M theta and write = A push.

    M and A are the products of mu and of 1 - alpha between two cells.
    """
    # An empty cell has gates of 1 and steps of 0: it passes everything on unchanged.
    gates = torch.where(token_BNC, torch.stack([mu_BNC, 1 - alpha_BNC]), 1.0)
    products = products_between(gates)
    # What was there before the chunk passes the gate of the first cell too.
    left_BNC1, keep_BNC1 = (products[..., :1] * gates[..., :1, None]).unbind(0)
    push_BNCC = products[0] * torch.where(token_BNC, theta_BNC, 0.0)[..., None, :]
    # An empty cell does not add the momentum to the memory.
    decay_BNCC = products[1] * token_BNC[..., None, :]
    # A step enters the momentum first; the memory then sums up the momentum of every cell.
    write_BNCC, roll_BNC1 = (decay_BNCC @ torch.cat([push_BNCC, left_BNC1], dim=-1)).split([theta_BNC.shape[-1], 1], -1)
    return CellWeights(write_BNCC, push_BNCC, keep_BNC1, roll_BNC1, left_BNC1)


def _states(
    carry_BVG: Tensor,
    *,
    fresh_BVG: Tensor,
    k_BNCK: Tensor,
    v_BNCV: Tensor,
    opens_BN: Tensor,
    closes_BN: Tensor,
    weights: CellWeights,
) -> tuple[Tensor, Tensor]:
    """Return the state before every chunk [B, N, V, G] and the state after the last one.

    A state is start, memory and momentum side by side; `fresh_BVG` is that of a new document.
    """
    # What a chunk adds to memory and momentum, and how much of its start that takes away, need no
    # state: both are made for all chunks at once, outside the sequential loop.
    lasts = [x_BNCC[..., -1, :, None] * k_BNCK for x_BNCC in (weights.write_BNCC, weights.push_BNCC)]
    written_BNCJ = torch.cat(lasts, dim=-1)
    add_BNVJ, take_BNKJ = v_BNCV.mT @ written_BNCJ, k_BNCK.mT @ written_BNCJ
    shares = (weights.keep_BNC1, weights.roll_BNC1, weights.left_BNC1)
    left = [x_BNC1[..., -1:, :].unbind(1) for x_BNC1 in shares]
    flags = [x_BN[..., None, None].unbind(1) for x_BN in (opens_BN, closes_BN)]
    before = []
    for add_BVJ, take_BKJ, keep_B11, roll_B11, left_B11, opens_B11, closes_B11 in zip(
        add_BNVJ.unbind(1), take_BNKJ.unbind(1), *left, *flags, strict=True
    ):
        before.append(torch.where(opens_B11, fresh_BVG, carry_BVG))
        start_BVK, memory_BVK, momentum_BVK = before[-1].chunk(3, dim=-1)
        # One product gives the weighted errors v - S_start k, for the memory and for its momentum.
        wrote_BVK, pushed_BVK = torch.baddbmm(add_BVJ, start_BVK, take_BKJ, alpha=-1).chunk(2, dim=-1)
        memory_BVK = keep_B11 * memory_BVK + roll_B11 * momentum_BVK + wrote_BVK
        # A chunk that stays open keeps its start: the rest of it may come in another piece.
        start_BVK = torch.where(closes_B11, memory_BVK, start_BVK)
        carry_BVG = torch.cat([start_BVK, memory_BVK, left_B11 * momentum_BVK + pushed_BVK], dim=-1)
    return torch.stack(before, dim=1), carry_BVG
