"""A start that arrives late: writes that do not depend on the state need not wait for it.

    S_n = a_n S_0 + A_n          a_n: product of the gates up to chunk n; A_n: from a start of zero
    read_n(q) = A_n q + a_n S_0 q

Where processes share a row, each computes A at once, and S_0, which earlier processes leave, is
added to what was read. Only this sum crosses from process to process in turn.
Shapes: B batch (lanes), T time, N chunks, C cells per chunk, D model width, F feed-forward width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.adapters.base import FastState
from ttt.adapters.mlp_desk import WritePass


def starts_late(writing: WritePass) -> bool:
    """Can this pass read and write before its start has come from another process?"""
    now, rule = writing.now, writing.rule
    # Open chunks and sums of earlier keys are part of what is written next.
    waits = now.streaming or rule.centre or not rule.associative
    return now.span is not None and now.span.has_earlier and writing.writes and not waits


def no_start(memory_BDF: Tensor) -> FastState:
    """The state from which such a pass computes."""
    return {"memory": torch.zeros_like(memory_BDF)}


def add_start(
    out_BTD: Tensor, after: FastState, *, z_BTF: Tensor, start_BDF: Tensor, writing: WritePass
) -> tuple[Tensor, FastState]:
    """Outputs and state of a pass that began at zero, once its start is there."""
    grid, since_BN = writing.now.grid, writing.gate_BN.cumprod(1)
    # A gate for each cell, and from there for each token.
    since_BNC1 = since_BN[..., None, None].expand(len(z_BTF), -1, grid.size, -1)
    read_BTD = grid.join(since_BNC1).to(z_BTF.dtype) * (z_BTF @ start_BDF.to(z_BTF.dtype).mT)
    return out_BTD + read_BTD, {"memory": since_BN[:, -1, None, None] * start_BDF + after["memory"]}
