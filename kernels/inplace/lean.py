"""The in-place memory in blocks of chunks, with a backward pass that keeps few states alive.

A block reads the state before it and, through a masked product, what its own earlier chunks wrote:

    O = a * (Q S^T) + ((Q K^T) * M) V      S' = t S + (e * V)^T K

a, M, e and t are products of gates: from the block's start to a chunk, between two chunks, from a
chunk to the block's end, and over the whole block. The backward pass goes through the blocks in
reverse; with G the gradient of S':

    dQ = a * (dO S) + dA K      dK = dA^T Q + (e * V) G      dV = A^T dO + e * (K G^T)
    dS = t G + (a * dO)^T Q     dA = (dO V^T) * M            A = (Q K^T) * M

It keeps one state per group of blocks and makes the others again. A single block is the dual form;
blocks of one chunk need no masked product, and kernels/inplace/chunkwise.py has them.
Shapes: B batch (lanes), N chunks, C tokens per chunk, J blocks, G chunks per block, L = G C tokens
per block, D model width, F feed-forward width, X any width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ttt.kernels.inplace.blocks import (
    block_gradients,
    block_of,
    fill_gate_gradients,
    grad_before,
    read_block,
    state_after,
)
from ttt.kernels.inplace.chunkwise import inplace_chunkwise
from ttt.kernels.inplace.gates import GateProducts, gate_products, group_size
from ttt.kernels.states import ReadAndState, state_dtype


def inplace_lean(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor,
    weight_DF: Tensor | None = None, block: int = 1,
) -> ReadAndState:  # fmt: skip
    """Return what `inplace_naive` returns, computed `block` chunks at a time.

    With `weight_DF`, W0 q is added to what was read; that needs `block` = 1.
    """
    assert weight_DF is None or block == 1, "only a block of one chunk reads one matrix"
    if block == 1:
        return inplace_chunkwise(
            q_BNCF, k_BNCF=k_BNCF, v_BNCD=v_BNCD, gate_BN=gate_BN, state_BDF=state_BDF, weight_DF=weight_DF
        )
    products = gate_products(gate_BN.to(state_dtype(gate_BN)), block)
    # Keys that are the queries get one gradient: passed twice, autograd would add two.
    keys_BNCF = None if k_BNCF is q_BNCF else k_BNCF
    read_BNCD, last_BDF = _Lean.apply(q_BNCF, keys_BNCF, v_BNCD, state_BDF, block, *products)
    return read_BNCD, last_BDF


class _Lean(torch.autograd.Function):
    """The memory with the backward pass of the equations above."""

    @staticmethod
    def forward(
        ctx: Any, q_BNCF: Tensor, k_BNCF: Tensor | None, v_BNCD: Tensor, state_BDF: Tensor, size: int, *gates: Tensor
    ) -> ReadAndState:
        products = GateProducts(*gates)
        blocks = products.whole_BJ.shape[1]
        group = group_size(blocks)
        reads, states = [], []
        state_BDF = state_BDF.to(state_dtype(state_BDF))
        with torch.autocast(q_BNCF.device.type, enabled=False):
            for j in range(blocks):
                first = j % group == 0
                if first:
                    states.append(state_BDF)
                block = block_of(j, size, q_BNCF, k_BNCF, v_BNCD, products)
                reads.append(read_block(block, state_BDF))
                # The state before a group is saved: it must not be overwritten.
                state_BDF = state_after(block, state_BDF, in_place=not first)
        ctx.size = size
        # The last state is often only carried on. Where no loss reads it, its gradient stays None
        # instead of a tensor of zeros, and its products are skipped.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q_BNCF, k_BNCF, v_BNCD, *gates, *states)
        read_BTD = reads[0] if blocks == 1 else torch.cat(reads, 1)
        return read_BTD.unflatten(1, q_BNCF.shape[1:3]), state_BDF

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dread_BNCD: Tensor | None, grad_BDF: Tensor | None) -> tuple[Tensor | None, ...]:
        q_BNCF, k_BNCF, v_BNCD, *saved = ctx.saved_tensors
        products, states = GateProducts(*saved[:4]), saved[4:]
        blocks, size = products.whole_BJ.shape[1], ctx.size
        group, chunk = group_size(blocks), q_BNCF.shape[2]
        dread_BNCD = torch.zeros_like(v_BNCD) if dread_BNCD is None else dread_BNCD.to(q_BNCF.dtype).contiguous()
        dgates = _zeros_per_lane(products, lanes=len(q_BNCF)) if any(ctx.needs_input_grad[5:]) else None
        parts = []
        with torch.autocast(q_BNCF.device.type, enabled=False):
            for start in reversed(range(0, blocks, group)):
                span = range(start, min(start + group, blocks))
                here = [block_of(j, size, q_BNCF, k_BNCF, v_BNCD, products) for j in span]
                before = [states[start // group]]
                for block in here[:-1]:
                    before.append(state_after(block, before[-1], in_place=False))
                for j in reversed(span):
                    block, state_BDF = here.pop(), before.pop()
                    dread_BLD = dread_BNCD[:, j * size : (j + 1) * size].flatten(1, 2)
                    if dgates is not None:
                        fill_gate_gradients(dgates, j, block, state_BDF, dread_BLD, grad_BDF, chunk)
                    parts.append(block_gradients(block, state_BDF, dread_BLD, grad_BDF))
                    # The gradient of the first state is a product that is often wanted by nobody.
                    if j or ctx.needs_input_grad[3]:
                        grad_BDF = grad_before(block, dread_BLD, grad_BDF, state_BDF.dtype)
        grads = [_joined(x_BLX, chunk) for x_BLX in zip(*reversed(parts), strict=True)]
        dstate_BDF = grad_BDF if ctx.needs_input_grad[3] else None
        if dgates is None:
            return *grads, dstate_BDF, None, None, None, None, None
        sums = (x.sum_to_size(w.shape) for x, w in zip(dgates, products, strict=True))
        return *grads, dstate_BDF, None, *sums


def _zeros_per_lane(products: GateProducts, *, lanes: int) -> GateProducts:
    """Return zeros for the gradients of gate products, also where lanes share the products."""
    return GateProducts(*(torch.zeros_like(x.expand(lanes, *x.shape[1:])) for x in products))


def _joined(parts: tuple[Tensor | None, ...], chunk: int) -> Tensor | None:
    """Return the gradients of all blocks as one tensor, in the grid of chunks."""
    tensors = [x_BLX for x_BLX in parts if x_BLX is not None]
    if not tensors:
        return None
    return (tensors[0] if len(tensors) == 1 else torch.cat(tensors, 1)).unflatten(1, (-1, chunk))
