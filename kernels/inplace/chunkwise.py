"""The in-place memory one chunk at a time, with a backward pass that keeps few states alive.

    X_n = g_n S_n      O_n = Q_n (W0 + X_n)^T      S_{n+1} = X_n + V_n^T K_n

Autograd through kernels/inplace/scan.py keeps a state for every chunk, several times over. Here one
state per group of chunks is kept, and the others are made again. The backward pass goes through the
chunks in reverse; with G the gradient of S_{n+1}:

    dX = G + dO^T Q      dQ = dO (W0 + X)      dK = V G      dV = K G^T
    dS_n = g_n dX        dg_n = <dX, S_n>

In full precision, arithmetic decides the time: products add to the state in place, and the frozen
weight is read together with the state (one product instead of two). In half precision products are
so cheap that calls and passes through memory decide: the products of a group go in one call, and W0
is read apart, because its sum with the state would round the state away.
Shapes: B batch (lanes), N chunks, C tokens per chunk, D model width, F feed-forward width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ttt.kernels.inplace.batched import back_batched, read_batched
from ttt.kernels.inplace.gates import Gates, gates_of, group_size
from ttt.kernels.inplace.groups import ChunkGroup, GroupGradients, StateGradient
from ttt.kernels.inplace.in_turn import back_in_turn, read_in_turn
from ttt.kernels.states import ReadAndState, state_dtype


def inplace_chunkwise(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor,
    weight_DF: Tensor | None = None,
) -> ReadAndState:  # fmt: skip
    """Return what `inplace_naive` returns; with `weight_DF`, W0 q is added to what was read."""
    gate_BN, state_BDF = (x.to(state_dtype(x)) for x in (gate_BN, state_BDF))
    # The sum of W0 and the state would be rounded to the tokens' precision.
    apart = weight_DF is not None and q_BNCF.dtype != state_BDF.dtype
    # Keys that are the queries get one gradient: passed twice, autograd would add two.
    keys_BNCF = None if k_BNCF is q_BNCF else k_BNCF
    folded_DF = None if apart else weight_DF
    read_BNCD, last_BDF = _Chunkwise.apply(q_BNCF, keys_BNCF, v_BNCD, state_BDF, folded_DF, gate_BN, gates_of(gate_BN))
    return F.linear(q_BNCF, weight_DF) + read_BNCD if apart and weight_DF is not None else read_BNCD, last_BDF


class _Chunkwise(torch.autograd.Function):
    """The memory with the backward pass of the equations above."""

    @staticmethod
    def forward(
        ctx: Any, q_BNCF: Tensor, k_BNCF: Tensor | None, v_BNCD: Tensor, state_BDF: Tensor,
        weight_DF: Tensor | None, gate_BN: Tensor, gates: Gates,
    ) -> ReadAndState:  # fmt: skip
        in_turn = q_BNCF.dtype == state_BDF.dtype
        ctx.in_turn, ctx.group, ctx.gates = in_turn, group_size(len(gates), few=1 if in_turn else len(gates)), gates
        run = read_in_turn if in_turn else read_batched
        read_BNCD = q_BNCF.new_empty(*q_BNCF.shape[:3], v_BNCD.shape[-1])
        states = []
        with torch.autocast(q_BNCF.device.type, enabled=False):
            for here in _groups(len(gates), ctx.group):
                part = _part(here, q_BNCF, k_BNCF, v_BNCD, gates)
                saved, state_BDF = run(part, state_BDF, weight_DF, read_BNCD[:, here])
                states.append(saved)
        # The last state is often only carried on. Where no loss reads it, its gradient stays None
        # instead of a tensor of zeros, and its products are skipped.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q_BNCF, k_BNCF, v_BNCD, weight_DF, gate_BN, *states)
        return read_BNCD, state_BDF

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dread_BNCD: Tensor | None, grad_BDF: Tensor | None) -> tuple[Tensor | None, ...]:
        q_BNCF, k_BNCF, v_BNCD, weight_DF, gate_BN, *states = ctx.saved_tensors
        dread_BNCD = torch.zeros_like(v_BNCD) if dread_BNCD is None else dread_BNCD.to(q_BNCF.dtype).contiguous()
        # Gradients are filled in part by part: gathering the parts would copy them all once more.
        dq_BNCF, dv_BNCD = torch.empty_like(q_BNCF), torch.empty_like(v_BNCD)
        dk_BNCF = dq_BNCF if k_BNCF is None else torch.empty_like(k_BNCF)
        dgate_BN = gate_BN.new_zeros(len(q_BNCF), gate_BN.shape[1]) if ctx.needs_input_grad[5] else None
        dweight_DF = None if weight_DF is None else torch.zeros_like(weight_DF)
        if dweight_DF is not None and grad_BDF is not None:
            dweight_DF = torch.mm(dread_BNCD.flatten(0, 2).mT, q_BNCF.flatten(0, 2))
        # A copy, because the backward pass adds to it in place.
        after = None if grad_BDF is None else StateGradient(grad_BDF.clone(), 1.0)
        run = back_in_turn if ctx.in_turn else back_batched
        with torch.autocast(q_BNCF.device.type, enabled=False):
            for here in reversed(_groups(len(ctx.gates), ctx.group)):
                part = _part(here, q_BNCF, k_BNCF, v_BNCD, ctx.gates)
                gate_here_BN = None if dgate_BN is None else dgate_BN[:, here]
                # The state's gradients add up to W0's only if they all come from reads, and none
                # from a loss on the last state.
                summed_DF = dweight_DF if grad_BDF is None else None
                into = GroupGradients(dq_BNCF[:, here], dk_BNCF[:, here], dv_BNCD[:, here], gate_here_BN, summed_DF)
                after = run(part, states.pop(), weight_DF, dread_BNCD[:, here], after, into)
        assert after is not None
        dstate_BDF = after.grad_BDF * after.factor
        if dweight_DF is not None and grad_BDF is None:
            dweight_DF += dstate_BDF.sum(0)
        dgate_BN = None if dgate_BN is None else dgate_BN.sum_to_size(gate_BN.shape)
        return dq_BNCF, None if k_BNCF is None else dk_BNCF, dv_BNCD, dstate_BDF, dweight_DF, dgate_BN, None


def _groups(chunks: int, size: int) -> list[slice]:
    """Cut a row of chunks into groups."""
    return [slice(first, min(first + size, chunks)) for first in range(0, chunks, size)]


def _part(here: slice, q_BNCF: Tensor, k_BNCF: Tensor | None, v_BNCD: Tensor, gates: Gates) -> ChunkGroup:
    """Return the inputs of the chunks `here`."""
    q_part_BNCF = q_BNCF[:, here]
    return ChunkGroup(q_part_BNCF, q_part_BNCF if k_BNCF is None else k_BNCF[:, here], v_BNCD[:, here], gates[here])
