"""A group of chunks of the in-place memory, and the gradients that its backward pass fills in.

kernels/inplace/in_turn.py goes through the chunks of a group one by one, kernels/inplace/batched.py
does all of them in one call; kernels/inplace/chunkwise.py has the equations.
Shapes: B batch (lanes), N chunks of the group, C tokens per chunk, D model width,
F feed-forward width.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ttt.kernels.inplace.gates import Gates


class ChunkGroup(NamedTuple):
    """The inputs of some chunks; `k_BNCF` is `q_BNCF` itself where keys are the queries."""

    q_BNCF: Tensor
    k_BNCF: Tensor
    v_BNCD: Tensor
    gates: Gates


class GroupGradients(NamedTuple):
    """Where a group's gradients go; `k_BNCF` is `q_BNCF` itself where keys are the queries.

    `gate_BN` and `weight_DF` are None where no gradient is wanted.
    """

    q_BNCF: Tensor
    k_BNCF: Tensor
    v_BNCD: Tensor
    gate_BN: Tensor | None
    weight_DF: Tensor | None


class StateGradient(NamedTuple):
    """The gradient of a state: a matrix times a factor."""

    # Multiplying the matrix out would cost one more pass through memory per chunk.
    grad_BDF: Tensor
    factor: float | Tensor
