"""The in-place memory in blocks of chunks, with a backward pass of its own: a few states alive at a time.

Autograd through kernels/inplace.py's scan keeps a state for every chunk, several times over. Here a block
of chunks reads the state before it and, through a masked product, what its own earlier chunks wrote:

    O = a * (Q S^T) + ((Q K^T) * M) V      S' = t S + (e * V)^T K

with a, M, e, t the products of gates from the block's start to a chunk, between two chunks, from a chunk to
the block's end, and over the whole block. The backward pass goes through the blocks in reverse (dS' = G):

    dQ = a * (dO S) + dA K      dK = dA^T Q + (e * V) G      dV = A^T dO + e * (K G^T)
    dS = t G + (a * dO)^T Q     dA = (dO V^T) * M            A = (Q K^T) * M

It keeps one state in every `group` blocks and makes the others again. Blocks of one chunk: no masked
product, a state per chunk; one block: the dual form. In a block of one chunk the frozen weight is read
with the state ("folded": one matrix product instead of two).
Shapes: B batch (lanes), N chunks, C tokens a chunk, J blocks, G chunks a block, L = G C tokens a block,
D model width, F feed-forward width.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from ttt.kernels.scan import gated_scan

# States up to which keeping every one of them is nothing beside the keys.
KEPT_STATES = 8


class Weights(NamedTuple):
    """Products of gates, for each block: a, M, e and t above. Leading dimension 1 where lanes are alike."""

    since_start_BJG: Tensor
    between_BJGG: Tensor
    to_end_BJG: Tensor
    whole_BJ: Tensor


def inplace_lean(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor,
    weight_DF: Tensor | None = None, block: int = 1,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What kernels/inplace.py's forms give, `block` chunks at a time; with `weight_DF`, W0 q is read as well."""
    assert weight_DF is None or block == 1, "only a block of one chunk reads one matrix"
    weights = gate_weights(gate_BN.to(torch.promote_types(gate_BN.dtype, torch.float32)), block)
    read_BNCD, last_BDF = _Lean.apply(q_BNCF, k_BNCF, v_BNCD, state_BDF, weight_DF, block, *weights)
    return read_BNCD, last_BDF


def gate_weights(gate_BN: Tensor, block: int) -> Weights:
    """From the gate of every chunk to the weights of every block; a last, shorter block is filled with ones."""
    lanes, chunks = gate_BN.shape
    blocks = -(-chunks // block)
    gate_XG = torch.nn.functional.pad(gate_BN, (0, blocks * block - chunks), value=1.0).reshape(-1, block)
    eye_GG = torch.eye(block, dtype=gate_BN.dtype, device=gate_BN.device)[None]
    between_XGG, to_end_XG = gated_scan(eye_GG, gate_BN=gate_XG, start_BX=torch.zeros_like(eye_GG[:, 0]))
    since_XG = gate_XG.cumprod(1)
    parts = (since_XG, between_XGG, to_end_XG, since_XG[:, -1])
    return Weights(*(x.expand(lanes * blocks, *x.shape[1:]).unflatten(0, (lanes, blocks)) for x in parts))


def group_size(blocks: int) -> int:
    """Blocks for each state that is kept: about as many are kept as made again at a time."""
    return 1 if blocks <= KEPT_STATES else math.ceil(math.sqrt(blocks))


class _Block(NamedTuple):
    """One block's inputs, tokens in one row, and its weights spread over them."""

    q_BLF: Tensor
    k_BLF: Tensor
    v_BLD: Tensor
    since_BL1: Tensor
    mask_BLL: Tensor | None
    to_end_BL1: Tensor
    left_BLD: Tensor
    whole_B11: Tensor


def _block(j: int, size: int, q_BNCF: Tensor, k_BNCF: Tensor, v_BNCD: Tensor, weights: Weights) -> _Block:
    q_BLF, k_BLF, v_BLD = (x[:, j * size : (j + 1) * size].flatten(1, 2) for x in (q_BNCF, k_BNCF, v_BNCD))
    tokens, length = q_BNCF.shape[2], q_BLF.shape[1]
    since_BL1, to_end_BL1 = (
        x[:, j].repeat_interleave(tokens, 1)[:, :length, None].to(q_BLF.dtype)
        for x in (weights.since_start_BJG, weights.to_end_BJG)
    )
    mask_BLL = None
    if length > tokens:
        mask_BLL = weights.between_BJGG[:, j].repeat_interleave(tokens, 1).repeat_interleave(tokens, 2)
        mask_BLL = mask_BLL[:, :length, :length].to(q_BLF.dtype)
    return _Block(
        q_BLF, k_BLF, v_BLD, since_BL1, mask_BLL, to_end_BL1, to_end_BL1 * v_BLD, weights.whole_BJ[:, j, None, None]
    )


class _Lean(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_BNCF: Tensor, k_BNCF: Tensor, v_BNCD: Tensor, state_BDF: Tensor,
        weight_DF: Tensor | None, size: int, *gates: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        weights = Weights(*gates)
        blocks = weights.whole_BJ.shape[1]
        group = group_size(blocks)
        read_BNCD = q_BNCF.new_empty(*q_BNCF.shape[:3], v_BNCD.shape[-1])
        state_BDF = state_BDF.to(torch.promote_types(state_BDF.dtype, torch.float32))
        kept = []
        with torch.autocast(q_BNCF.device.type, enabled=False):
            for j in range(blocks):
                if j % group == 0:
                    kept.append(state_BDF)
                one = _block(j, size, q_BNCF, k_BNCF, v_BNCD, weights)
                read_BLD = _read(one, state_BDF, weight_DF)
                read_BNCD[:, j * size : (j + 1) * size] = read_BLD.unflatten(1, (-1, q_BNCF.shape[2]))
                state_BDF = _after(one, state_BDF)
        ctx.size = size
        ctx.save_for_backward(q_BNCF, k_BNCF, v_BNCD, weight_DF, *gates, *kept)
        return read_BNCD, state_BDF

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dread_BNCD: Tensor, grad_BDF: Tensor) -> tuple[Tensor | None, ...]:
        q_BNCF, k_BNCF, v_BNCD, weight_DF, *gates_and_kept = ctx.saved_tensors
        weights, kept = Weights(*gates_and_kept[:4]), gates_and_kept[4:]
        blocks, size, learned = weights.whole_BJ.shape[1], ctx.size, any(ctx.needs_input_grad[6:])
        group, chunk = group_size(blocks), q_BNCF.shape[2]
        dread_BNCD = dread_BNCD.to(q_BNCF.dtype)
        grads = [torch.empty_like(x) for x in (q_BNCF, k_BNCF, v_BNCD)]
        dweight_DF = torch.zeros_like(weight_DF) if weight_DF is not None else None
        dgates = Weights(*(torch.zeros_like(x.expand(len(q_BNCF), *x.shape[1:])) for x in weights)) if learned else None
        with torch.autocast(q_BNCF.device.type, enabled=False):
            for first in reversed(range(0, blocks, group)):
                span = range(first, min(first + group, blocks))
                ones = [_block(j, size, q_BNCF, k_BNCF, v_BNCD, weights) for j in span]
                before = [kept[first // group]]
                for one in ones[:-1]:
                    before.append(_after(one, before[-1]))
                for j in reversed(span):
                    one, state_BDF = ones.pop(), before.pop()
                    here = slice(j * size, (j + 1) * size)
                    dread_BLD = dread_BNCD[:, here].flatten(1, 2)
                    if dgates is not None:
                        _gate_gradients(dgates, j, one, state_BDF, dread_BLD, grad_BDF, chunk)
                    product_BDF, *parts = _backward(one, state_BDF, weight_DF, dread_BLD, grad_BDF)
                    for whole_BNCX, part_BLX in zip(grads, parts, strict=True):
                        whole_BNCX[:, here] = part_BLX.unflatten(1, (-1, chunk))
                    if dweight_DF is not None:
                        dweight_DF += product_BDF.sum(0)
                        product_BDF *= one.since_BL1[:, :1]
                    grad_BDF = torch.addcmul(product_BDF, one.whole_B11, grad_BDF)
        if dgates is None:
            return *grads, grad_BDF, dweight_DF, None, None, None, None, None
        sums = (x.sum_to_size(w.shape) for x, w in zip(dgates, weights, strict=True))
        return *grads, grad_BDF, dweight_DF, None, *sums


def _readable(one: _Block, state_BDF: Tensor, weight_DF: Tensor | None) -> Tensor:
    """What the block's queries meet, in their precision; the sum with W0 is made before it is rounded."""
    if weight_DF is None:
        return state_BDF.to(one.q_BLF.dtype)
    return torch.addcmul(weight_DF, one.since_BL1[:, :1].to(state_BDF.dtype), state_BDF).to(one.q_BLF.dtype)


def _read(one: _Block, state_BDF: Tensor, weight_DF: Tensor | None) -> Tensor:
    read_BLD = torch.bmm(one.q_BLF, _readable(one, state_BDF, weight_DF).mT)
    if weight_DF is None:
        read_BLD *= one.since_BL1
    if one.mask_BLL is not None:
        read_BLD.baddbmm_(torch.bmm(one.q_BLF, one.k_BLF.mT).mul_(one.mask_BLL), one.v_BLD)
    return read_BLD


def _after(one: _Block, state_BDF: Tensor) -> Tensor:
    """t S + (e * V)^T K, in the state's precision."""
    if one.k_BLF.dtype == state_BDF.dtype:
        return torch.baddbmm(one.whole_B11 * state_BDF, one.left_BLD.mT, one.k_BLF)
    return torch.addcmul(torch.bmm(one.left_BLD.mT, one.k_BLF), one.whole_B11, state_BDF)


def _backward(
    one: _Block, state_BDF: Tensor, weight_DF: Tensor | None, dread_BLD: Tensor, grad_BDF: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(a * dO)^T Q, but dO^T Q with a frozen weight; and the gradients of q, k and v."""
    seen_BLD = dread_BLD if weight_DF is not None else dread_BLD * one.since_BL1
    dq_BLF = torch.bmm(seen_BLD, _readable(one, state_BDF, weight_DF))
    grad_thin_BDF = grad_BDF.to(one.q_BLF.dtype)
    dk_BLF = torch.bmm(one.left_BLD, grad_thin_BDF)
    dv_BLD = torch.bmm(one.k_BLF, grad_thin_BDF.mT).mul_(one.to_end_BL1)
    if one.mask_BLL is not None:
        dscore_BLL = torch.bmm(dread_BLD, one.v_BLD.mT).mul_(one.mask_BLL)
        score_BLL = torch.bmm(one.q_BLF, one.k_BLF.mT).mul_(one.mask_BLL)
        dq_BLF.baddbmm_(dscore_BLL, one.k_BLF)
        dk_BLF.baddbmm_(dscore_BLL.mT, one.q_BLF)
        dv_BLD.baddbmm_(score_BLL.mT, dread_BLD)
    return torch.bmm(seen_BLD.mT, one.q_BLF).to(grad_BDF.dtype), dq_BLF, dk_BLF, dv_BLD


def _gate_gradients(
    into: Weights, j: int, one: _Block, state_BDF: Tensor, dread_BLD: Tensor, grad_BDF: Tensor, chunk: int
) -> None:
    """The gradients of the products of gates; only where gates are learned."""

    def per_chunk(x_BLX: Tensor, dim: int = 1) -> Tensor:
        return x_BLX.unflatten(dim, (-1, chunk)).sum(dim + 1)

    count = dread_BLD.shape[1] // chunk
    state_BDF, grad_thin_BDF = state_BDF.to(one.q_BLF.dtype), grad_BDF.to(one.q_BLF.dtype)
    read_BL = (dread_BLD * torch.bmm(one.q_BLF, state_BDF.mT)).sum(2)
    kept_BL = (one.v_BLD * torch.bmm(one.k_BLF, grad_thin_BDF.mT)).sum(2)
    into.since_start_BJG[:, j, :count] = per_chunk(read_BL)
    into.to_end_BJG[:, j, :count] = per_chunk(kept_BL)
    into.whole_BJ[:, j] = (grad_BDF * state_BDF).sum((1, 2))
    if one.mask_BLL is not None:
        product_BLL = torch.bmm(dread_BLD, one.v_BLD.mT) * torch.bmm(one.q_BLF, one.k_BLF.mT)
        into.between_BJGG[:, j, :count, :count] = per_chunk(per_chunk(product_BLL), 2)
