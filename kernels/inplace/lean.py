"""The in-place memory in blocks of chunks, with a backward pass of its own: a few states alive at a time.

A block of chunks reads the state before it and, through a masked product, what its own earlier chunks wrote:

    O = a * (Q S^T) + ((Q K^T) * M) V      S' = t S + (e * V)^T K

with a, M, e, t the products of gates from the block's start to a chunk, between two chunks, from a chunk to
the block's end, and over the whole block. The backward pass goes through the blocks in reverse (dS' = G):

    dQ = a * (dO S) + dA K      dK = dA^T Q + (e * V) G      dV = A^T dO + e * (K G^T)
    dS = t G + (a * dO)^T Q     dA = (dO V^T) * M            A = (Q K^T) * M

It keeps one state in every `group` blocks and makes the others again. One block is the dual form; blocks of
one chunk need no masked product: kernels/inplace/chunkwise.py has them.
Shapes: B batch (lanes), N chunks, C tokens a chunk, J blocks, G chunks a block, L = G C tokens a block,
D model width, F feed-forward width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ttt.kernels.inplace.chunkwise import inplace_chunkwise
from ttt.kernels.inplace.gates import Weights, gate_weights, group_size


def inplace_lean(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor,
    weight_DF: Tensor | None = None, block: int = 1,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What kernels/inplace/naive.py's forms give, `block` chunks at a time; with `weight_DF`, W0 q is read as well."""
    assert weight_DF is None or block == 1, "only a block of one chunk reads one matrix"
    if block == 1:
        return inplace_chunkwise(
            q_BNCF, k_BNCF=k_BNCF, v_BNCD=v_BNCD, gate_BN=gate_BN, state_BDF=state_BDF, weight_DF=weight_DF
        )
    weights = gate_weights(gate_BN.to(torch.promote_types(gate_BN.dtype, torch.float32)), block)
    # Keys that are the queries are differentiated once.
    keys_BNCF = None if k_BNCF is q_BNCF else k_BNCF
    read_BNCD, last_BDF = _Lean.apply(q_BNCF, keys_BNCF, v_BNCD, state_BDF, block, *weights)
    return read_BNCD, last_BDF


class _Block(NamedTuple):
    """One block's inputs, tokens in one row, and its weights spread over them."""

    q_BLF: Tensor
    k_BLF: Tensor
    v_BLD: Tensor
    since_BL1: Tensor
    mask_BLL: Tensor
    to_end_BL1: Tensor
    whole_B11: Tensor


def _block(j: int, size: int, q_BNCF: Tensor, k_BNCF: Tensor | None, v_BNCD: Tensor, weights: Weights) -> _Block:
    here = slice(j * size, (j + 1) * size)
    q_BLF, v_BLD = q_BNCF[:, here].flatten(1, 2), v_BNCD[:, here].flatten(1, 2)
    k_BLF = q_BLF if k_BNCF is None else k_BNCF[:, here].flatten(1, 2)
    tokens, length = q_BNCF.shape[2], q_BLF.shape[1]
    since_BL1, to_end_BL1 = (
        x[:, j].repeat_interleave(tokens, 1)[:, :length, None].to(q_BLF.dtype)
        for x in (weights.since_start_BJG, weights.to_end_BJG)
    )
    between_BGG = weights.between_BJGG[:, j].to(q_BLF.dtype)
    mask_BLL = between_BGG.repeat_interleave(tokens, 1).repeat_interleave(tokens, 2)[:, :length, :length]
    return _Block(q_BLF, k_BLF, v_BLD, since_BL1, mask_BLL, to_end_BL1, weights.whole_BJ[:, j, None, None])


class _Lean(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_BNCF: Tensor, k_BNCF: Tensor | None, v_BNCD: Tensor, state_BDF: Tensor, size: int, *gates: Tensor
    ) -> tuple[Tensor, Tensor]:
        weights = Weights(*gates)
        blocks = weights.whole_BJ.shape[1]
        group = group_size(blocks)
        reads = []
        state_BDF = state_BDF.to(torch.promote_types(state_BDF.dtype, torch.float32))
        kept = []
        with torch.autocast(q_BNCF.device.type, enabled=False):
            for j in range(blocks):
                keep = j % group == 0
                if keep:
                    kept.append(state_BDF)
                one = _block(j, size, q_BNCF, k_BNCF, v_BNCD, weights)
                reads.append(_read(one, state_BDF))
                state_BDF = _after(one, state_BDF, in_place=not keep)
        ctx.size = size
        # The last state is often only carried on: what no loss reads has no gradient, and none is made up.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q_BNCF, k_BNCF, v_BNCD, *gates, *kept)
        read_BTD = reads[0] if blocks == 1 else torch.cat(reads, 1)
        return read_BTD.unflatten(1, q_BNCF.shape[1:3]), state_BDF

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dread_BNCD: Tensor | None, grad_BDF: Tensor | None) -> tuple[Tensor | None, ...]:
        q_BNCF, k_BNCF, v_BNCD, *gates_and_kept = ctx.saved_tensors
        weights, kept = Weights(*gates_and_kept[:4]), gates_and_kept[4:]
        blocks, size, learned = weights.whole_BJ.shape[1], ctx.size, any(ctx.needs_input_grad[5:])
        group, chunk = group_size(blocks), q_BNCF.shape[2]
        dread_BNCD = torch.zeros_like(v_BNCD) if dread_BNCD is None else dread_BNCD.to(q_BNCF.dtype).contiguous()
        dgates = Weights(*(torch.zeros_like(x.expand(len(q_BNCF), *x.shape[1:])) for x in weights)) if learned else None
        parts = []
        with torch.autocast(q_BNCF.device.type, enabled=False):
            for first in reversed(range(0, blocks, group)):
                span = range(first, min(first + group, blocks))
                ones = [_block(j, size, q_BNCF, k_BNCF, v_BNCD, weights) for j in span]
                before = [kept[first // group]]
                for one in ones[:-1]:
                    before.append(_after(one, before[-1], in_place=False))
                for j in reversed(span):
                    one, state_BDF = ones.pop(), before.pop()
                    dread_BLD = dread_BNCD[:, j * size : (j + 1) * size].flatten(1, 2)
                    if dgates is not None:
                        _gate_gradients(dgates, j, one, state_BDF, dread_BLD, grad_BDF, chunk)
                    parts.append(_backward(one, state_BDF, dread_BLD, grad_BDF))
                    if j or ctx.needs_input_grad[3]:
                        grad_BDF = _grad_before(one, dread_BLD, grad_BDF, state_BDF.dtype)
        grads = [_joined(x_BLX, chunk) for x_BLX in zip(*reversed(parts), strict=True)]
        dstate_BDF = grad_BDF if ctx.needs_input_grad[3] else None
        if dgates is None:
            return *grads, dstate_BDF, None, None, None, None, None
        sums = (x.sum_to_size(w.shape) for x, w in zip(dgates, weights, strict=True))
        return *grads, dstate_BDF, None, *sums


def _joined(parts: tuple[Tensor | None, ...], chunk: int) -> Tensor | None:
    """The gradients of all blocks as one, in the grid."""
    tensors = [x_BLX for x_BLX in parts if x_BLX is not None]
    if not tensors:
        return None
    return (tensors[0] if len(tensors) == 1 else torch.cat(tensors, 1)).unflatten(1, (-1, chunk))


def _read(one: _Block, state_BDF: Tensor) -> Tensor:
    read_BLD = torch.bmm(one.q_BLF, state_BDF.to(one.q_BLF.dtype).mT).mul_(one.since_BL1)
    return read_BLD.baddbmm_(torch.bmm(one.q_BLF, one.k_BLF.mT).mul_(one.mask_BLL), one.v_BLD)


def _after(one: _Block, state_BDF: Tensor, *, in_place: bool) -> Tensor:
    """t S + (e * V)^T K, in the state's precision."""
    faded_BDF = state_BDF.mul_(one.whole_B11) if in_place else state_BDF * one.whole_B11
    return faded_BDF.add_(torch.bmm((one.to_end_BL1 * one.v_BLD).mT, one.k_BLF))


def _backward(
    one: _Block, state_BDF: Tensor, dread_BLD: Tensor, grad_BDF: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """The gradients of q, k and v; k's is in q's where they are one."""
    same, dtype = one.k_BLF is one.q_BLF, one.q_BLF.dtype
    dq_BLF = torch.bmm(dread_BLD * one.since_BL1, state_BDF.to(dtype))
    dscore_BLL = torch.bmm(dread_BLD, one.v_BLD.mT).mul_(one.mask_BLL)
    dq_BLF.baddbmm_(dscore_BLL, one.k_BLF)
    dk_BLF = dq_BLF.baddbmm_(dscore_BLL.mT, one.q_BLF) if same else torch.bmm(dscore_BLL.mT, one.q_BLF)
    dv_BLD = torch.bmm(torch.bmm(one.q_BLF, one.k_BLF.mT).mul_(one.mask_BLL).mT, dread_BLD)
    if grad_BDF is not None:
        dk_BLF.baddbmm_(one.to_end_BL1 * one.v_BLD, grad_BDF.to(dtype))
        dv_BLD.addcmul_(one.to_end_BL1, torch.bmm(one.k_BLF, grad_BDF.to(dtype).mT))
    return dq_BLF, None if same else dk_BLF, dv_BLD


def _grad_before(one: _Block, dread_BLD: Tensor, grad_BDF: Tensor | None, wide: torch.dtype) -> Tensor:
    """dS = t G + (a * dO)^T Q, in the state's precision."""
    product_BDF = torch.bmm((dread_BLD * one.since_BL1).mT, one.q_BLF).to(wide)
    return product_BDF if grad_BDF is None else product_BDF.addcmul_(one.whole_B11, grad_BDF)


def _gate_gradients(
    into: Weights, j: int, one: _Block, state_BDF: Tensor, dread_BLD: Tensor, grad_BDF: Tensor | None, chunk: int
) -> None:
    """The gradients of the products of gates; only where gates are learned."""

    def per_chunk(x_BLX: Tensor, dim: int = 1) -> Tensor:
        return x_BLX.unflatten(dim, (-1, chunk)).sum(dim + 1)

    count, thin_BDF = dread_BLD.shape[1] // chunk, state_BDF.to(one.q_BLF.dtype)
    read_BL = (dread_BLD * torch.bmm(one.q_BLF, thin_BDF.mT)).sum(2)
    into.since_start_BJG[:, j, :count] = per_chunk(read_BL)
    product_BLL = torch.bmm(dread_BLD, one.v_BLD.mT) * torch.bmm(one.q_BLF, one.k_BLF.mT)
    into.between_BJGG[:, j, :count, :count] = per_chunk(per_chunk(product_BLL), 2)
    if grad_BDF is not None:
        kept_BL = (one.v_BLD * torch.bmm(one.k_BLF, grad_BDF.to(one.q_BLF.dtype).mT)).sum(2)
        into.to_end_BJG[:, j, :count] = per_chunk(kept_BL)
        into.whole_BJ[:, j] = (grad_BDF * state_BDF).sum((1, 2))
