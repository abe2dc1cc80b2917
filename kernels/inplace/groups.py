"""A group of chunks of the in-place memory, forward and backward: one by one, or batched.

kernels/inplace/chunkwise.py has the equations. One by one: products add to the state in place, and the frozen weight is
read with the state. Batched: all products of a group in one call, each state rounded to the tokens' precision.
Shapes: B batch (lanes), N chunks of the group, C tokens a chunk, D model width, F feed-forward width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ttt.kernels.inplace.gates import Gates


class Group(NamedTuple):
    """Some chunks of a row; a gate is a number where all lanes share it, else [B, 1, 1]."""

    q_BNCF: Tensor
    k_BNCF: Tensor
    v_BNCD: Tensor
    gates: Gates


class Found(NamedTuple):
    """Where a group's gradients go; `k_BNCF` is `q_BNCF` where keys are the queries."""

    q_BNCF: Tensor
    k_BNCF: Tensor
    v_BNCD: Tensor
    gate_BN: Tensor | None
    weight_DF: Tensor | None


class Back(NamedTuple):
    """The gradient of a state as a matrix and a factor: scaling the matrix would cost a pass through memory."""

    grad_BDF: Tensor
    factor: float | Tensor


def _readable(state_BDF: Tensor, gate: float | Tensor, weight_DF: Tensor | None, into_BDF: Tensor) -> Tensor:
    """W0 + g S in a buffer; without W0 the state itself, and g is left to the tokens."""
    if weight_DF is None:
        return state_BDF
    if isinstance(gate, float):
        return torch.add(weight_DF, state_BDF, alpha=gate, out=into_BDF)
    return torch.addcmul(weight_DF, gate, state_BDF, out=into_BDF)


def _add_product(state_BDF: Tensor, gate: float | Tensor, left_BDC: Tensor, k_BCF: Tensor, into_BDF: Tensor) -> Tensor:
    """g S + V^T K; `into_BDF` may be the state."""
    if isinstance(gate, float):
        return torch.baddbmm(state_BDF, left_BDC, k_BCF, beta=gate, out=into_BDF)
    return torch.mul(state_BDF, gate, out=into_BDF).baddbmm_(left_BDC, k_BCF)


def read_in_turn(part: Group, state_BDF: Tensor, weight_DF: Tensor | None, read_BNCD: Tensor) -> tuple[Tensor, Tensor]:
    """Reads a group's chunks one by one; gives what to keep for the backward pass, and the state behind them."""
    start_BDF, readable_BDF, next_BDF = state_BDF, torch.empty_like(state_BDF), torch.empty_like(state_BDF)
    for n, gate in enumerate(part.gates):
        x_BDF = _readable(state_BDF, gate, weight_DF, readable_BDF)
        torch.bmm(part.q_BNCF[:, n], x_BDF.mT, out=read_BNCD[:, n])
        if weight_DF is None:
            read_BNCD[:, n] *= gate
        state_BDF = _add_product(state_BDF, gate, part.v_BNCD[:, n].mT, part.k_BNCF[:, n], next_BDF)
    return start_BDF, state_BDF


def back_in_turn(
    part: Group, state_BDF: Tensor, weight_DF: Tensor | None, dread_BNCD: Tensor, back: Back | None, found: Found
) -> Back:
    states = [state_BDF]
    for n, gate in enumerate(part.gates[:-1]):
        into_BDF = torch.empty_like(state_BDF)
        states.append(_add_product(states[-1], gate, part.v_BNCD[:, n].mT, part.k_BNCF[:, n], into_BDF))
    readable_BDF = torch.empty_like(state_BDF)
    for n in reversed(range(len(states))):
        gate, state_BDF, dread_BCD = part.gates[n], states.pop(), dread_BNCD[:, n]
        x_BDF = _readable(state_BDF, gate, weight_DF, readable_BDF)
        torch.bmm(dread_BCD, x_BDF, out=found.q_BNCF[:, n])
        if weight_DF is None:
            found.q_BNCF[:, n] *= gate
        _back_through_write(n, part, back, found)
        if back is None:
            grad_BDF = torch.bmm(dread_BCD.mT, part.q_BNCF[:, n])
        else:
            grad_BDF = _add_product(back.grad_BDF, back.factor, dread_BCD.mT, part.q_BNCF[:, n], back.grad_BDF)
        if found.gate_BN is not None:
            found.gate_BN[:, n] = (grad_BDF * state_BDF).sum((1, 2))
        if found.weight_DF is not None:
            _add_share(found.weight_DF, grad_BDF, gate)
        back = Back(grad_BDF, gate)
    assert back is not None
    return back


def _add_share(dweight_DF: Tensor, grad_BDF: Tensor, gate: float | Tensor) -> None:
    """The share of a gradient that no earlier chunk sees: W0's gradient is what they add up to."""
    if isinstance(gate, float):
        for grad_DF in grad_BDF:
            dweight_DF.add_(grad_DF, alpha=1.0 - gate)
    else:
        dweight_DF += ((1.0 - gate) * grad_BDF).sum(0)


def _back_through_write(n: int, part: Group, back: Back | None, found: Found) -> None:
    """dK = V G and dV = K G^T of one chunk."""
    same = part.k_BNCF is part.q_BNCF
    if back is None:
        found.v_BNCD[:, n] = 0
        if not same:
            found.k_BNCF[:, n] = 0
        return
    left_BCD = part.v_BNCD[:, n] * back.factor
    if same:
        found.k_BNCF[:, n].baddbmm_(left_BCD, back.grad_BDF)
    else:
        torch.bmm(left_BCD, back.grad_BDF, out=found.k_BNCF[:, n])
    torch.bmm(part.k_BNCF[:, n], back.grad_BDF.mT, out=found.v_BNCD[:, n])
    found.v_BNCD[:, n] *= back.factor


def _states(part: Group, state_BDF: Tensor) -> tuple[Tensor, Tensor]:
    """[B, N, D, F]: the state before each chunk, in the tokens' precision; and the state behind the group."""
    states_BNDF = torch.matmul(part.v_BNCD.mT, part.k_BNCF)
    spare_BDF, next_BDF = torch.empty_like(state_BDF), torch.empty_like(state_BDF)
    for n, (gate, here_BDF) in enumerate(zip(part.gates, states_BNDF.unbind(1), strict=True)):
        # What a chunk wrote makes room for the state before it.
        _add_scaled(here_BDF, state_BDF, gate, next_BDF)
        here_BDF.copy_(state_BDF)
        state_BDF, next_BDF = next_BDF, spare_BDF if n == 0 else state_BDF
    return states_BNDF, state_BDF


def _add_scaled(product_BDF: Tensor, state_BDF: Tensor, gate: float | Tensor, into_BDF: Tensor) -> Tensor:
    """P + g S in one pass, widened on the way."""
    if isinstance(gate, float):
        return torch.add(product_BDF, state_BDF, alpha=gate, out=into_BDF)
    return torch.mul(state_BDF, gate, out=into_BDF).add_(product_BDF)


def _per_token(gates: Gates, like: Tensor) -> Tensor:
    """[B or 1, N, 1, 1], in the tokens' precision."""
    columns = [torch.as_tensor(gate).to(like).view(-1, 1, 1) for gate in gates]
    return torch.stack(torch.broadcast_tensors(*columns), 1)


def _products(left_BNXY: Tensor, right_BNYZ: Tensor, *, into_BNXZ: Tensor, beta: int = 0) -> None:
    """All products of a group, one call a lane: a slice of chunks is one tensor for one lane only."""
    for left_NXY, right_NYZ, into_NXZ in zip(left_BNXY, right_BNYZ, into_BNXZ, strict=True):
        torch.baddbmm(into_NXZ, left_NXY, right_NYZ, beta=beta, out=into_NXZ)


def read_batched(part: Group, state_BDF: Tensor, weight_DF: Tensor | None, read_BNCD: Tensor) -> tuple[Tensor, Tensor]:
    """As `read_in_turn`; all states are kept where they are no more numbers than the keys."""
    assert weight_DF is None, "the sum with W0 would round the state away"
    states_BNDF, last_BDF = _states(part, state_BDF)
    _products(part.q_BNCF, states_BNDF.mT, into_BNXZ=read_BNCD)
    read_BNCD *= _per_token(part.gates, read_BNCD)
    width, chunk = part.v_BNCD.shape[-1], part.v_BNCD.shape[-2]
    return states_BNDF if width <= chunk else state_BDF, last_BDF


def back_batched(
    part: Group, kept: Tensor, weight_DF: Tensor | None, dread_BNCD: Tensor, back: Back | None, found: Found
) -> Back:
    assert weight_DF is None, "the sum with W0 would round the state away"
    states_BNDF = kept if kept.dim() == 4 else _states(part, kept)[0]
    _products(dread_BNCD * _per_token(part.gates, dread_BNCD), states_BNDF, into_BNXZ=found.q_BNCF)
    grad_BNDF = torch.matmul(dread_BNCD.mT, part.q_BNCF)
    back = back or Back(kept.new_zeros(grad_BNDF[:, 0].shape, dtype=torch.float32), 1.0)
    factor_BN11 = _per_token([*part.gates[1:], back.factor], dread_BNCD)
    spare_BDF = torch.empty_like(back.grad_BDF)
    for n, here_BDF in reversed(list(enumerate(grad_BNDF.unbind(1)))):
        # What a chunk's reads ask of the state makes room for what is asked of the state behind it.
        summed_BDF = _add_scaled(here_BDF, back.grad_BDF, back.factor, spare_BDF)
        here_BDF.copy_(back.grad_BDF)
        spare_BDF, back = back.grad_BDF, Back(summed_BDF, part.gates[n])
        if found.gate_BN is not None:
            found.gate_BN[:, n] = (summed_BDF * states_BNDF[:, n]).sum((1, 2))
    same = part.k_BNCF is part.q_BNCF
    _products(part.v_BNCD * factor_BN11, grad_BNDF, into_BNXZ=found.k_BNCF, beta=int(same))
    _products(part.k_BNCF, grad_BNDF.mT, into_BNXZ=found.v_BNCD)
    found.v_BNCD.mul_(factor_BN11)
    return back
