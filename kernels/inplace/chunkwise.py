"""The in-place memory one chunk at a time, with a backward pass of its own: a few states alive at a time.

    X_n = g_n S_n      O_n = Q_n (W0 + X_n)^T      S_{n+1} = X_n + V_n^T K_n

Autograd through kernels/inplace/naive.py's scan keeps a state for every chunk, several times over. Here one state in
every group of chunks is kept and the others are made again. The backward pass goes through the chunks in
reverse; with G the gradient of S_{n+1}:

    dX = G + dO^T Q      dQ = dO (W0 + X)      dK = V G      dV = K G^T      dS_n = g_n dX      dg_n = <dX, S_n>

In full precision operations decide: products add to the state in place, and the frozen weight is read with the
state (one product instead of two). In half precision products are so cheap that calls and passes decide: those
of a group are done in one call, and W0 is read apart, for the sum would round the state away.
Shapes: B batch (lanes), N chunks, C tokens a chunk, D model width, F feed-forward width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ttt.kernels.inplace.gates import Gates, gates_of, group_size
from ttt.kernels.inplace.groups import Back, Found, Group, back_batched, back_in_turn, read_batched, read_in_turn


def inplace_chunkwise(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor,
    weight_DF: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What kernels/inplace/naive.py's forms give; with `weight_DF`, W0 q is read as well."""
    gate_BN, state_BDF = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (gate_BN, state_BDF))
    # A sum with the state would be rounded to the tokens' precision.
    apart = weight_DF is not None and q_BNCF.dtype != state_BDF.dtype
    # Keys that are the queries are differentiated once.
    keys_BNCF = None if k_BNCF is q_BNCF else k_BNCF
    folded_DF = None if apart else weight_DF
    read_BNCD, last_BDF = _Chunkwise.apply(q_BNCF, keys_BNCF, v_BNCD, state_BDF, folded_DF, gate_BN, gates_of(gate_BN))
    return F.linear(q_BNCF, weight_DF) + read_BNCD if apart and weight_DF is not None else read_BNCD, last_BDF


class _Chunkwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q_BNCF: Tensor, k_BNCF: Tensor | None, v_BNCD: Tensor, state_BDF: Tensor,
        weight_DF: Tensor | None, gate_BN: Tensor, gates: Gates,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        in_turn = q_BNCF.dtype == state_BDF.dtype
        ctx.in_turn, ctx.group, ctx.gates = in_turn, group_size(len(gates), few=1 if in_turn else len(gates)), gates
        run = read_in_turn if in_turn else read_batched
        read_BNCD = q_BNCF.new_empty(*q_BNCF.shape[:3], v_BNCD.shape[-1])
        kept = []
        with torch.autocast(q_BNCF.device.type, enabled=False):
            for here in _groups(len(gates), ctx.group):
                part = _part(here, q_BNCF, k_BNCF, v_BNCD, gates)
                keep, state_BDF = run(part, state_BDF, weight_DF, read_BNCD[:, here])
                kept.append(keep)
        # The last state is often only carried on: what no loss reads has no gradient, and none is made up.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(q_BNCF, k_BNCF, v_BNCD, weight_DF, gate_BN, *kept)
        return read_BNCD, state_BDF

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dread_BNCD: Tensor | None, grad_BDF: Tensor | None) -> tuple[Tensor | None, ...]:
        q_BNCF, k_BNCF, v_BNCD, weight_DF, gate_BN, *kept = ctx.saved_tensors
        dread_BNCD = torch.zeros_like(v_BNCD) if dread_BNCD is None else dread_BNCD.to(q_BNCF.dtype).contiguous()
        dq_BNCF, dv_BNCD = torch.empty_like(q_BNCF), torch.empty_like(v_BNCD)
        dk_BNCF = dq_BNCF if k_BNCF is None else torch.empty_like(k_BNCF)
        dgate_BN = gate_BN.new_zeros(len(q_BNCF), gate_BN.shape[1]) if ctx.needs_input_grad[5] else None
        dweight_DF = None if weight_DF is None else torch.zeros_like(weight_DF)
        if dweight_DF is not None and grad_BDF is not None:
            dweight_DF = torch.mm(dread_BNCD.flatten(0, 2).mT, q_BNCF.flatten(0, 2))
        back = None if grad_BDF is None else Back(grad_BDF.clone(), 1.0)
        run = back_in_turn if ctx.in_turn else back_batched
        with torch.autocast(q_BNCF.device.type, enabled=False):
            for here in reversed(_groups(len(ctx.gates), ctx.group)):
                part = _part(here, q_BNCF, k_BNCF, v_BNCD, ctx.gates)
                gate_here_BN = None if dgate_BN is None else dgate_BN[:, here]
                # Sums of the state's gradient give W0's only where none came in from behind the row.
                summed_DF = dweight_DF if grad_BDF is None else None
                found = Found(dq_BNCF[:, here], dk_BNCF[:, here], dv_BNCD[:, here], gate_here_BN, summed_DF)
                back = run(part, kept.pop(), weight_DF, dread_BNCD[:, here], back, found)
        assert back is not None
        dstate_BDF = back.grad_BDF * back.factor
        if dweight_DF is not None and grad_BDF is None:
            dweight_DF += dstate_BDF.sum(0)
        dgate_BN = None if dgate_BN is None else dgate_BN.sum_to_size(gate_BN.shape)
        return dq_BNCF, None if k_BNCF is None else dk_BNCF, dv_BNCD, dstate_BDF, dweight_DF, dgate_BN, None


def _groups(chunks: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, chunks)) for first in range(0, chunks, size)]


def _part(here: slice, q_BNCF: Tensor, k_BNCF: Tensor | None, v_BNCD: Tensor, gates: Gates) -> Group:
    q_part_BNCF = q_BNCF[:, here]
    return Group(q_part_BNCF, q_part_BNCF if k_BNCF is None else k_BNCF[:, here], v_BNCD[:, here], gates[here])
