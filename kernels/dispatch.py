"""Which tensors Triton kernels serve, and the functions that choose: one name, two implementations.

Torch serves all tensors, and triton is never imported (`ttt.kernels.triton_*` are imported here, when first
needed, and nowhere else), unless the variable TTT_TRITON says otherwise: `on` gives CUDA tensors the kernels.
They are proved in Triton's interpreter and compiled for sm_80 to sm_90, but were never timed or run on a GPU:
hence not by default. `interpret` gives CPU tensors the interpreter, for tests without a GPU (with
TRITON_INTERPRET=1 from the start of the process: torch imports triton when it likes, and that is when it looks).
Shapes: B batch (lanes, times heads), T time, N chunks, C tokens a chunk, D model width, F feed-forward width,
K key width, V value width, O taps.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ttt.kernels.delta.chunk import delta_chunk
from ttt.kernels.inplace.lean import inplace_lean
from ttt.kernels.inplace.rows import neighbours

# A wider state leaves a program no registers; no head is.
WIDEST_KEY = 128

Memory = tuple[Tensor, Tensor]
Outputs = tuple[Tensor, ...]


def fused(x: Tensor) -> bool:
    """Does a Triton kernel serve tensors like `x`?"""
    wish = os.environ.get("TTT_TRITON", "")
    if wish == "off" or x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return False
    return (x.is_cuda or wish == "interpret") and _installed()


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
) -> Memory:
    """The gated delta rule: kernels/delta/chunk.py's `delta_chunk`, or its kernel."""
    form = delta_chunk
    if fused(q_BTK) and q_BTK.shape[-1] <= WIDEST_KEY:
        from ttt.kernels.delta.triton import delta_triton

        form = delta_triton
    return form(q_BTK, k_BTK=k_BTK, v_BTV=v_BTV, beta_BT=beta_BT, gate_BT=gate_BT, state_BVK=state_BVK, size=size)


def inplace(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor,
    weight_DF: Tensor | None = None, block: int = 1,
) -> Memory:  # fmt: skip
    """The in-place memory: kernels/inplace/lean.py's `inplace_lean`, or the kernel that makes the states.

    In full precision operations decide, and W0 read with the state saves one product: no kernel.
    """
    inputs = {"k_BNCF": k_BNCF, "v_BNCD": v_BNCD, "gate_BN": gate_BN, "state_BDF": state_BDF}
    if weight_DF is None and fused(q_BNCF):
        from ttt.kernels.inplace.triton import inplace_triton

        return inplace_triton(q_BNCF, **inputs, block=block)
    return inplace_lean(q_BNCF, **inputs, weight_DF=weight_DF, block=block)


def targets(x_BNCD: Tensor, *, conv_OD: Tensor, target_DD: Tensor, scale_BNC1: Tensor) -> Tensor:
    """What the in-place memory writes: scale * (conv(x) W_t); the convolution stays inside its chunk."""
    if fused(x_BNCD):
        from ttt.kernels.inplace.triton import targets_triton

        return targets_triton(x_BNCD, conv_OD=conv_OD, target_DD=target_DD, scale_BNC1=scale_BNC1)
    return targets_torch(x_BNCD, conv_OD, target_DD, scale_BNC1)


def targets_torch(x_BNCD: Tensor, conv_OD: Tensor, target_DD: Tensor, scale_BNC1: Tensor) -> Tensor:
    return (neighbours(x_BNCD, conv_OD) @ target_DD.to(x_BNCD.dtype)) * scale_BNC1


class Recomputed(torch.autograd.Function):
    """The values of `kernel`, the gradients of `form`: the backward pass runs `form` and goes back through it.

    Only the inputs are kept. Both take the same tensors in the same order.
    """

    @staticmethod
    def forward(ctx: Any, kernel: Callable[..., Outputs], form: Callable[..., Outputs], *inputs: Tensor) -> Outputs:
        kind = inputs[0].device.type
        ctx.form, ctx.cast = form, (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        ctx.save_for_backward(*inputs)
        # Triton launches on the current device.
        with torch.cuda.device_of(inputs[0]):
            return kernel(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[2:]
        inputs = [x.detach().requires_grad_(need) for x, need in zip(ctx.saved_tensors, needed, strict=True)]
        kind, dtype, enabled = ctx.cast
        with torch.enable_grad(), torch.autocast(kind, dtype=dtype, enabled=enabled):
            outputs = ctx.form(*inputs)
        # An output may depend on no input that wants a gradient.
        live = [n for n, x in enumerate(outputs) if x.requires_grad]
        wanted = [x for x in inputs if x.requires_grad]
        found = iter(
            torch.autograd.grad([outputs[n] for n in live], wanted, [grads[n] for n in live], allow_unused=True)
        )
        return None, None, *(next(found) if need else None for need in needed)
