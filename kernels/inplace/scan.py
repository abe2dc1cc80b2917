"""The in-place memory with a state for every chunk (the materialised form).

It computes all chunk sums at once, scans over chunks, and reads all states at once. Autograd keeps
every state, several times over.
kernels/inplace/naive.py has the definition.
Shapes: B batch (lanes), N chunks, C tokens per chunk, D model width, F feed-forward width.
"""

from __future__ import annotations

from torch import Tensor

from ttt.kernels.scan import gated_scan
from ttt.kernels.states import ReadAndState


def inplace_scan(q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor) -> ReadAndState:
    """Return what `inplace_naive` returns, in three steps over all chunks."""
    delta_BNDF = v_BNCD.transpose(-1, -2) @ k_BNCF
    before_BNDF, state_BDF = gated_scan(delta_BNDF, gate_BN=gate_BN, start_BX=state_BDF.float())
    return q_BNCF @ before_BNDF.to(q_BNCF.dtype).transpose(-1, -2), state_BDF
