"""A group of chunks of the in-place memory one by one, for full precision.

Products add to the state in place, and the frozen weight is read together with the state.
kernels/inplace/chunkwise.py has the equations.
Shapes: B batch (lanes), N chunks of the group, C tokens per chunk, D model width,
F feed-forward width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.kernels.inplace.groups import ChunkGroup, GroupGradients, StateGradient


def read_in_turn(
    part: ChunkGroup, state_BDF: Tensor, weight_DF: Tensor | None, read_BNCD: Tensor
) -> tuple[Tensor, Tensor]:
    """Read a group's chunks one by one into `read_BNCD`.

    Returns what to keep for the backward pass (the state before the group), and the state after it.
    """
    start_BDF, readable_BDF, next_BDF = state_BDF, torch.empty_like(state_BDF), torch.empty_like(state_BDF)
    for n, gate in enumerate(part.gates):
        x_BDF = _readable(state_BDF, gate, weight_DF, readable_BDF)
        torch.bmm(part.q_BNCF[:, n], x_BDF.mT, out=read_BNCD[:, n])
        # A product with the tokens is smaller than one with the state.
        if weight_DF is None:
            read_BNCD[:, n] *= gate
        state_BDF = _add_product(state_BDF, gate, part.v_BNCD[:, n].mT, part.k_BNCF[:, n], next_BDF)
    return start_BDF, state_BDF


def back_in_turn(
    part: ChunkGroup, state_BDF: Tensor, weight_DF: Tensor | None, dread_BNCD: Tensor,
    after: StateGradient | None, into: GroupGradients,
) -> StateGradient:  # fmt: skip
    """Fill in a group's gradients, last chunk first; return the gradient of the state before it.

    `after` is the gradient of the state after the group; None: no loss reads that state.
    """
    # Only the state before the group was kept: the others are made again, and freed one by one.
    states = [state_BDF]
    for n, gate in enumerate(part.gates[:-1]):
        next_BDF = torch.empty_like(state_BDF)
        states.append(_add_product(states[-1], gate, part.v_BNCD[:, n].mT, part.k_BNCF[:, n], next_BDF))
    readable_BDF = torch.empty_like(state_BDF)
    for n in reversed(range(len(states))):
        gate, state_BDF, dread_BCD = part.gates[n], states.pop(), dread_BNCD[:, n]
        x_BDF = _readable(state_BDF, gate, weight_DF, readable_BDF)
        torch.bmm(dread_BCD, x_BDF, out=into.q_BNCF[:, n])
        if weight_DF is None:
            into.q_BNCF[:, n] *= gate
        _back_through_write(n, part, after, into)
        if after is None:
            grad_BDF = torch.bmm(dread_BCD.mT, part.q_BNCF[:, n])
        else:
            # In place: the gradient of the state after the chunk has had its last use.
            grad_BDF = _add_product(after.grad_BDF, after.factor, dread_BCD.mT, part.q_BNCF[:, n], after.grad_BDF)
        # Before the gate is applied: dg = <dX, S>.
        if into.gate_BN is not None:
            into.gate_BN[:, n] = (grad_BDF * state_BDF).sum((1, 2))
        if into.weight_DF is not None:
            _add_share(into.weight_DF, grad_BDF, gate)
        # The gate is left as a factor for the chunk before.
        after = StateGradient(grad_BDF, gate)
    assert after is not None
    return after


def _back_through_write(n: int, part: ChunkGroup, after: StateGradient | None, into: GroupGradients) -> None:
    """Fill in dK = V G and dV = K G^T of chunk n."""
    same = part.k_BNCF is part.q_BNCF
    if after is None:
        into.v_BNCD[:, n] = 0
        if not same:
            into.k_BNCF[:, n] = 0
        return
    left_BCD = part.v_BNCD[:, n] * after.factor
    # Where keys are the queries, dQ is already there: dK is added to it.
    if same:
        into.k_BNCF[:, n].baddbmm_(left_BCD, after.grad_BDF)
    else:
        torch.bmm(left_BCD, after.grad_BDF, out=into.k_BNCF[:, n])
    torch.bmm(part.k_BNCF[:, n], after.grad_BDF.mT, out=into.v_BNCD[:, n])
    into.v_BNCD[:, n] *= after.factor


def _add_share(dweight_DF: Tensor, grad_BDF: Tensor, gate: float | Tensor) -> None:
    """Add the share of a gradient that no earlier chunk sees to the gradient of W0."""
    # W0's gradient is the sum of all dO^T Q, and dO_n^T Q_n = dX_n - g_{n+1} dX_{n+1}: in the sum,
    # each dX counts 1 - g. That saves a product per chunk.
    if isinstance(gate, float):
        for grad_DF in grad_BDF:
            dweight_DF.add_(grad_DF, alpha=1.0 - gate)
    else:
        dweight_DF += ((1.0 - gate) * grad_BDF).sum(0)


def _readable(state_BDF: Tensor, gate: float | Tensor, weight_DF: Tensor | None, into_BDF: Tensor) -> Tensor:
    """Return W0 + g S in a buffer; without W0 the state itself, and g is left to the tokens."""
    if weight_DF is None:
        return state_BDF
    if isinstance(gate, float):
        return torch.add(weight_DF, state_BDF, alpha=gate, out=into_BDF)
    return torch.addcmul(weight_DF, gate, state_BDF, out=into_BDF)


def _add_product(state_BDF: Tensor, gate: float | Tensor, left_BDC: Tensor, k_BCF: Tensor, into_BDF: Tensor) -> Tensor:
    """Return g S + V^T K in a buffer, which may be the state itself."""
    if isinstance(gate, float):
        return torch.baddbmm(state_BDF, left_BDC, k_BCF, beta=gate, out=into_BDF)
    return torch.mul(state_BDF, gate, out=into_BDF).baddbmm_(left_BDC, k_BCF)
