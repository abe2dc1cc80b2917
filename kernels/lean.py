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

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from ttt.kernels.gates import Weights, gate_weights, group_size


def inplace_lean(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor,
    weight_DF: Tensor | None = None, block: int = 1,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What kernels/inplace.py's forms give, `block` chunks at a time; with `weight_DF`, W0 q is read as well."""
    assert weight_DF is None or block == 1, "only a block of one chunk reads one matrix"
    weights = gate_weights(gate_BN.to(torch.promote_types(gate_BN.dtype, torch.float32)), block)
    # Gates that all lanes share are plain numbers where looking at them costs nothing: one pass less a state.
    shared = len(gate_BN) == 1 and gate_BN.device.type == "cpu" and not gate_BN.requires_grad
    plan = Plan(block, weights.whole_BJ[0].tolist() if shared else None)
    # Keys that are the queries are differentiated once.
    keys_BNCF = None if k_BNCF is q_BNCF else k_BNCF
    read_BNCD, last_BDF = _Lean.apply(q_BNCF, keys_BNCF, v_BNCD, state_BDF, weight_DF, plan, *weights)
    return read_BNCD, last_BDF


class Plan(NamedTuple):
    """Chunks a block; t of each block where it is a number."""

    size: int
    whole: list[float] | None


class _Block(NamedTuple):
    """One block's inputs, tokens in one row, and its weights spread over them."""

    q_BLF: Tensor
    k_BLF: Tensor
    v_BLD: Tensor
    since_BL1: Tensor
    mask_BLL: Tensor | None
    to_end_BL1: Tensor
    whole: float | Tensor

    def left(self) -> Tensor:
        """[B, L, D]: what is written, weighted by what is left of it at the end; all in a block of one chunk."""
        return self.v_BLD if self.mask_BLL is None else self.to_end_BL1 * self.v_BLD


def _block(j: int, plan: Plan, q_BNCF: Tensor, k_BNCF: Tensor | None, v_BNCD: Tensor, weights: Weights) -> _Block:
    here = slice(j * plan.size, (j + 1) * plan.size)
    q_BLF, v_BLD = q_BNCF[:, here].flatten(1, 2), v_BNCD[:, here].flatten(1, 2)
    k_BLF = q_BLF if k_BNCF is None else k_BNCF[:, here].flatten(1, 2)
    tokens, length = q_BNCF.shape[2], q_BLF.shape[1]
    since_BL1, to_end_BL1 = (
        x[:, j].repeat_interleave(tokens, 1)[:, :length, None].to(q_BLF.dtype)
        for x in (weights.since_start_BJG, weights.to_end_BJG)
    )
    mask_BLL = None
    if length > tokens:
        mask_BLL = weights.between_BJGG[:, j].repeat_interleave(tokens, 1).repeat_interleave(tokens, 2)
        mask_BLL = mask_BLL[:, :length, :length].to(q_BLF.dtype)
    whole = weights.whole_BJ[:, j, None, None] if plan.whole is None else plan.whole[j]
    return _Block(q_BLF, k_BLF, v_BLD, since_BL1, mask_BLL, to_end_BL1, whole)


class _Lean(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_BNCF: Tensor, k_BNCF: Tensor | None, v_BNCD: Tensor, state_BDF: Tensor,
        weight_DF: Tensor | None, plan: Plan, *gates: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        weights = Weights(*gates)
        blocks = weights.whole_BJ.shape[1]
        group = group_size(blocks)
        read_BNCD = q_BNCF.new_empty(*q_BNCF.shape[:3], v_BNCD.shape[-1])
        state_BDF = state_BDF.to(torch.promote_types(state_BDF.dtype, torch.float32))
        kept = []
        with torch.autocast(q_BNCF.device.type, enabled=False):
            for j in range(blocks):
                keep = j % group == 0
                if keep:
                    kept.append(state_BDF)
                one = _block(j, plan, q_BNCF, k_BNCF, v_BNCD, weights)
                read_BLD = _read(one, state_BDF, weight_DF)
                read_BNCD[:, j * plan.size : (j + 1) * plan.size] = read_BLD.unflatten(1, (-1, q_BNCF.shape[2]))
                state_BDF = _after(one, state_BDF, in_place=not keep)
        ctx.plan = plan
        ctx.save_for_backward(q_BNCF, k_BNCF, v_BNCD, weight_DF, *gates, *kept)
        return read_BNCD, state_BDF

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dread_BNCD: Tensor, grad_BDF: Tensor) -> tuple[Tensor | None, ...]:
        q_BNCF, k_BNCF, v_BNCD, weight_DF, *gates_and_kept = ctx.saved_tensors
        weights, kept = Weights(*gates_and_kept[:4]), gates_and_kept[4:]
        blocks, size, learned = weights.whole_BJ.shape[1], ctx.plan.size, any(ctx.needs_input_grad[6:])
        group, chunk = group_size(blocks), q_BNCF.shape[2]
        dread_BNCD = dread_BNCD.to(q_BNCF.dtype)
        grads = [None if x is None else torch.empty_like(x) for x in (q_BNCF, k_BNCF, v_BNCD)]
        dweight_DF = torch.zeros_like(weight_DF) if weight_DF is not None else None
        dgates = Weights(*(torch.zeros_like(x.expand(len(q_BNCF), *x.shape[1:])) for x in weights)) if learned else None
        back = _Back(grad_BDF, 1.0)
        with torch.autocast(q_BNCF.device.type, enabled=False):
            for first in reversed(range(0, blocks, group)):
                span = range(first, min(first + group, blocks))
                ones = [_block(j, ctx.plan, q_BNCF, k_BNCF, v_BNCD, weights) for j in span]
                before = [kept[first // group]]
                for one in ones[:-1]:
                    before.append(_after(one, before[-1], in_place=False))
                for j in reversed(span):
                    one, state_BDF = ones.pop(), before.pop()
                    here = slice(j * size, (j + 1) * size)
                    dread_BLD = dread_BNCD[:, here].flatten(1, 2)
                    if dgates is not None:
                        _gate_gradients(dgates, j, one, state_BDF, dread_BLD, back.whole(), chunk)
                    back, parts = _backward(one, state_BDF, weight_DF, dread_BLD, back, dweight_DF)
                    for whole_BNCX, part_BLX in zip(grads, parts, strict=True):
                        if whole_BNCX is not None and part_BLX is not None:
                            whole_BNCX[:, here] = part_BLX.unflatten(1, (-1, chunk))
        if dgates is None:
            return *grads, back.whole(), dweight_DF, None, None, None, None, None
        sums = (x.sum_to_size(w.shape) for x, w in zip(dgates, weights, strict=True))
        return *grads, back.whole(), dweight_DF, None, *sums


class _Back(NamedTuple):
    """The gradient of a state as a matrix and a factor: scaling a matrix would cost a pass through memory."""

    grad_BDF: Tensor
    factor: float | Tensor

    def whole(self) -> Tensor:
        return self.grad_BDF * self.factor

    def added_to(self, product_BDF: Tensor, factor: float | Tensor) -> Tensor:
        """product + factor * gradient, in place of the product."""
        if isinstance(factor, float) and isinstance(self.factor, float):
            return product_BDF.add_(self.grad_BDF, alpha=factor * self.factor)
        return product_BDF.addcmul_(torch.as_tensor(factor * self.factor).to(self.grad_BDF), self.grad_BDF)


def _readable(one: _Block, state_BDF: Tensor, weight_DF: Tensor | None) -> Tensor:
    """What the block's queries meet, in their precision; the sum with W0 is made before it is rounded."""
    if weight_DF is None:
        return state_BDF.to(one.q_BLF.dtype)
    if isinstance(one.whole, float):
        return torch.add(weight_DF, state_BDF, alpha=one.whole).to(one.q_BLF.dtype)
    return torch.addcmul(weight_DF, one.whole.to(state_BDF.dtype), state_BDF).to(one.q_BLF.dtype)


def _read(one: _Block, state_BDF: Tensor, weight_DF: Tensor | None) -> Tensor:
    read_BLD = torch.bmm(one.q_BLF, _readable(one, state_BDF, weight_DF).mT)
    if weight_DF is None:
        read_BLD *= one.since_BL1
    if one.mask_BLL is not None:
        read_BLD.baddbmm_(torch.bmm(one.q_BLF, one.k_BLF.mT).mul_(one.mask_BLL), one.v_BLD)
    return read_BLD


def _after(one: _Block, state_BDF: Tensor, *, in_place: bool) -> Tensor:
    """t S + (e * V)^T K, in the state's precision."""
    left_BDL = one.left().mT
    if one.k_BLF.dtype == state_BDF.dtype and isinstance(one.whole, float):
        if in_place:
            return state_BDF.baddbmm_(left_BDL, one.k_BLF, beta=one.whole)
        return torch.baddbmm(state_BDF, left_BDL, one.k_BLF, beta=one.whole)
    faded_BDF = state_BDF.mul_(one.whole) if in_place else state_BDF * one.whole
    if one.k_BLF.dtype == state_BDF.dtype:
        return faded_BDF.baddbmm_(left_BDL, one.k_BLF)
    return faded_BDF.add_(torch.bmm(left_BDL, one.k_BLF))


def _backward(
    one: _Block, state_BDF: Tensor, weight_DF: Tensor | None, dread_BLD: Tensor, back: _Back, dweight_DF: Tensor | None
) -> tuple[_Back, tuple[Tensor, Tensor | None, Tensor]]:
    """The gradient of the state before the block, and those of q, k and v; k's is in q's where they are one."""
    single, same = one.mask_BLL is None, one.k_BLF is one.q_BLF
    # In a block of one chunk a = t is one number: it goes into the factor.
    seen_BLD = dread_BLD if single else dread_BLD * one.since_BL1
    readable_BDF = _readable(one, state_BDF, weight_DF)
    dq_BLF = torch.bmm(seen_BLD, readable_BDF)
    if single and weight_DF is None:
        dq_BLF *= one.whole
    grad_BDF, left_BLD = back.grad_BDF.to(one.q_BLF.dtype), (one.left() * back.factor).to(one.q_BLF.dtype)
    dk_BLF = dq_BLF.baddbmm_(left_BLD, grad_BDF) if same else torch.bmm(left_BLD, grad_BDF)
    dv_BLD = torch.bmm(one.k_BLF, grad_BDF.mT).mul_(one.to_end_BL1 * back.factor)
    if one.mask_BLL is not None:
        dscore_BLL = torch.bmm(dread_BLD, one.v_BLD.mT).mul_(one.mask_BLL)
        score_BLL = torch.bmm(one.q_BLF, one.k_BLF.mT).mul_(one.mask_BLL)
        dq_BLF.baddbmm_(dscore_BLL, one.k_BLF)
        dk_BLF.baddbmm_(dscore_BLL.mT, one.q_BLF)
        dv_BLD.baddbmm_(score_BLL.mT, dread_BLD)
    product_BDF = torch.bmm(seen_BLD.mT, one.q_BLF).to(back.grad_BDF.dtype)
    if dweight_DF is not None:
        for product_DF in product_BDF:
            dweight_DF += product_DF
    before = (
        _Back(back.added_to(product_BDF, 1.0), one.whole)
        if single
        else _Back(back.added_to(product_BDF, one.whole), 1.0)
    )
    return before, (dq_BLF, None if same else dk_BLF, dv_BLD)


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
