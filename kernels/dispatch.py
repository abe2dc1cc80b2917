"""One name for two implementations: functions that choose between a torch form and a Triton kernel.

By default torch serves all tensors and triton is never imported: the Triton kernels
(kernels/*/triton*.py) are imported only here, when first needed. The variable TTT_TRITON changes
that: `on` gives CUDA tensors the kernels. They are proved in Triton's interpreter and compiled for
sm_80 to sm_90, but were never timed or run on a GPU: hence not by default. `interpret` gives CPU
tensors the interpreter, for tests without a GPU. It needs TRITON_INTERPRET=1 from the start of the
process: triton reads that variable when it is imported, and torch may import triton at any time.
Shapes: B batch (lanes, times heads), T time, N chunks, C tokens per chunk, D model width,
F feed-forward width, K key width, V value width, O taps.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from ttt.kernels.delta.chunk import delta_chunk
from ttt.kernels.inplace.lean import inplace_lean
from ttt.kernels.inplace.rows import targets_torch
from ttt.kernels.states import ReadAndState
from ttt.kernels.tiles import WIDEST_KEY


def fused(x: Tensor) -> bool:
    """Return whether a Triton kernel serves tensors like `x`."""
    setting = os.environ.get("TTT_TRITON", "")
    if setting == "off" or x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return False
    return (x.is_cuda or setting == "interpret") and _installed()


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


def delta(
    q_BTK: Tensor,
    *,
    k_BTK: Tensor,
    v_BTV: Tensor,
    beta_BT: Tensor,
    gate_BT: Tensor,
    state_BVK: Tensor,
    size: int = 32,
) -> ReadAndState:
    """Run the gated delta rule: `delta_chunk` (kernels/delta/chunk.py), or its Triton kernel."""
    form = delta_chunk
    if fused(q_BTK) and q_BTK.shape[-1] <= WIDEST_KEY:
        from ttt.kernels.delta.triton import delta_triton

        form = delta_triton
    return form(q_BTK, k_BTK=k_BTK, v_BTV=v_BTV, beta_BT=beta_BT, gate_BT=gate_BT, state_BVK=state_BVK, size=size)


def inplace(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor,
    weight_DF: Tensor | None = None, block: int = 1,
) -> ReadAndState:  # fmt: skip
    """Run the in-place memory: `inplace_lean` (kernels/inplace/lean.py), or its Triton kernel."""
    inputs = {"k_BNCF": k_BNCF, "v_BNCD": v_BNCD, "gate_BN": gate_BN, "state_BDF": state_BDF}
    # `weight_DF` is passed in full precision only. There arithmetic decides the time, and reading
    # W0 together with the state saves one product: the torch form is the better one.
    if weight_DF is None and fused(q_BNCF):
        from ttt.kernels.inplace.triton_states import inplace_triton

        return inplace_triton(q_BNCF, **inputs, block=block)
    return inplace_lean(q_BNCF, **inputs, weight_DF=weight_DF, block=block)


def targets(x_BNCD: Tensor, *, conv_OD: Tensor, target_DD: Tensor, scale_BNC1: Tensor) -> Tensor:
    """Make the targets of the in-place memory: `targets_torch` or its Triton kernel."""
    if fused(x_BNCD):
        from ttt.kernels.inplace.triton_targets import targets_triton

        return targets_triton(x_BNCD, conv_OD=conv_OD, target_DD=target_DD, scale_BNC1=scale_BNC1)
    return targets_torch(x_BNCD, conv_OD=conv_OD, target_DD=target_DD, scale_BNC1=scale_BNC1)
