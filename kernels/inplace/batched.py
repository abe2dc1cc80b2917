"""A group of chunks of the in-place memory at once, for half precision.

All products of a group go in one call, and each state is rounded to the tokens' precision. W0 is
read apart: its sum with the state would round the state away.
kernels/inplace/chunkwise.py has the equations.
Shapes: B batch (lanes), N chunks of the group, C tokens per chunk, D model width,
F feed-forward width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.kernels.inplace.gates import Gates
from ttt.kernels.inplace.groups import ChunkGroup, GroupGradients, StateGradient


def read_batched(
    part: ChunkGroup, state_BDF: Tensor, weight_DF: Tensor | None, read_BNCD: Tensor
) -> tuple[Tensor, Tensor]:
    """Read a group into `read_BNCD`; return what to keep, and the state after the group."""
    assert weight_DF is None, "the sum with W0 would round the state away"
    states_BNDF, last_BDF = _states(part, state_BDF)
    _products(part.q_BNCF, states_BNDF.mT, into_BNXZ=read_BNCD)
    read_BNCD *= _per_token(part.gates, read_BNCD)
    width, chunk = part.v_BNCD.shape[-1], part.v_BNCD.shape[-2]
    # All states are kept where they take no more memory than the keys, [C, F] per chunk.
    return states_BNDF if width <= chunk else state_BDF, last_BDF


def back_batched(
    part: ChunkGroup, saved: Tensor, weight_DF: Tensor | None, dread_BNCD: Tensor,
    after: StateGradient | None, into: GroupGradients,
) -> StateGradient:  # fmt: skip
    """Fill in a group's gradients; return the gradient of the state before it."""
    assert weight_DF is None, "the sum with W0 would round the state away"
    states_BNDF = saved if saved.dim() == 4 else _states(part, saved)[0]
    _products(dread_BNCD * _per_token(part.gates, dread_BNCD), states_BNDF, into_BNXZ=into.q_BNCF)
    grad_BNDF = torch.matmul(dread_BNCD.mT, part.q_BNCF)
    after = after or StateGradient(saved.new_zeros(grad_BNDF[:, 0].shape, dtype=torch.float32), 1.0)
    factor_BN11 = _per_token([*part.gates[1:], after.factor], dread_BNCD)
    spare_BDF = torch.empty_like(after.grad_BDF)
    for n, here_BDF in reversed(list(enumerate(grad_BNDF.unbind(1)))):
        # Reuse the buffer: the share of the chunk's own reads is overwritten by the gradient of the
        # state after the chunk.
        summed_BDF = _add_scaled(here_BDF, after.grad_BDF, after.factor, spare_BDF)
        here_BDF.copy_(after.grad_BDF)
        spare_BDF, after = after.grad_BDF, StateGradient(summed_BDF, part.gates[n])
        if into.gate_BN is not None:
            into.gate_BN[:, n] = (summed_BDF * states_BNDF[:, n]).sum((1, 2))
    # Where keys are the queries, dQ is already there: beta = 1 adds dK to it.
    same = part.k_BNCF is part.q_BNCF
    _products(part.v_BNCD * factor_BN11, grad_BNDF, into_BNXZ=into.k_BNCF, beta=int(same))
    _products(part.k_BNCF, grad_BNDF.mT, into_BNXZ=into.v_BNCD)
    into.v_BNCD.mul_(factor_BN11)
    return after


def _states(part: ChunkGroup, state_BDF: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state before each chunk [B, N, D, F], and the state after the group.

    States before chunks are rounded to the tokens' precision; the running state stays fp32.
    """
    states_BNDF = torch.matmul(part.v_BNCD.mT, part.k_BNCF)
    spare_BDF, next_BDF = torch.empty_like(state_BDF), torch.empty_like(state_BDF)
    for n, (gate, here_BDF) in enumerate(zip(part.gates, states_BNDF.unbind(1), strict=True)):
        # Reuse the buffer: the chunk's product is overwritten by the state before the chunk.
        _add_scaled(here_BDF, state_BDF, gate, next_BDF)
        here_BDF.copy_(state_BDF)
        # The two buffers take turns. The caller's state is not one of them: it may be needed later.
        state_BDF, next_BDF = next_BDF, spare_BDF if n == 0 else state_BDF
    return states_BNDF, state_BDF


def _add_scaled(product_BDF: Tensor, state_BDF: Tensor, gate: float | Tensor, into_BDF: Tensor) -> Tensor:
    """Return P + g S in a buffer."""
    # One pass through memory: `add` widens a bf16 product on the way.
    if isinstance(gate, float):
        return torch.add(product_BDF, state_BDF, alpha=gate, out=into_BDF)
    return torch.mul(state_BDF, gate, out=into_BDF).add_(product_BDF)


def _per_token(gates: Gates, like: Tensor) -> Tensor:
    """Return the gates as [B or 1, N, 1, 1], in the tokens' precision."""
    columns = [torch.as_tensor(gate).to(like).view(-1, 1, 1) for gate in gates]
    return torch.stack(torch.broadcast_tensors(*columns), 1)


def _products(left_BNXY: Tensor, right_BNYZ: Tensor, *, into_BNXZ: Tensor, beta: int = 0) -> None:
    """Compute all products of a group, one call per lane."""
    # A slice of chunks is contiguous within one lane only, and `baddbmm` takes one batch dimension.
    for left_NXY, right_NYZ, into_NXZ in zip(left_BNXY, right_BNYZ, into_BNXZ, strict=True):
        torch.baddbmm(into_NXZ, left_NXY, right_NYZ, beta=beta, out=into_NXZ)
