"""Row-wise pieces of the in-place write.

Each has a backward pass of its own that makes few temporary tensors.
Shapes: N chunks with all dimensions before, C tokens per chunk, F key width, D model width, O taps.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def row_norm(x_NCF: Tensor) -> Tensor:
    """Return |x| of every row, [..., C, 1], in fp32 or wider; at least 1e-6."""
    norm: Tensor = _RowNorm.apply(x_NCF)
    return norm.clamp(min=1e-6)


class _RowNorm(torch.autograd.Function):
    """The norm with d|x|/dx = x / |x|."""

    # Autograd's backward pass would first widen all of x to fp32.

    @staticmethod
    def forward(ctx: Any, x_NCF: Tensor) -> Tensor:
        wide = torch.promote_types(x_NCF.dtype, torch.float32)
        norm_NC1 = torch.linalg.vector_norm(x_NCF, dim=-1, keepdim=True, dtype=wide)
        ctx.save_for_backward(x_NCF, norm_NC1)
        return norm_NC1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NC1: Tensor) -> Tensor:
        x_NCF, norm_NC1 = ctx.saved_tensors
        return x_NCF * (grad_NC1 / norm_NC1.clamp(min=1e-6)).to(x_NCF.dtype)


def neighbours(x_NCD: Tensor, conv_OD: Tensor) -> Tensor:
    """Convolve each channel inside its chunk: y_c = sum over o of w_o x_{c + o - O//2}.

    Tokens beyond the edges of the chunk count as zeros.
    """
    assert len(conv_OD) % 2, "a convolution around a token has an odd number of taps"
    out: Tensor = _Neighbours.apply(x_NCD, conv_OD)
    return out


class _Neighbours(torch.autograd.Function):
    """The convolution as a sum of shifted copies, added up in one buffer."""

    # Autograd would make a gradient of full size for every tap before it adds them up.

    @staticmethod
    def forward(ctx: Any, x_NCD: Tensor, conv_OD: Tensor) -> Tensor:
        padded_NCD, weight_OD = _padded(x_NCD, len(conv_OD)), conv_OD.to(x_NCD.dtype)
        ctx.save_for_backward(x_NCD, conv_OD)
        size = x_NCD.shape[-2]
        sum_NCD = padded_NCD[..., :size, :] * weight_OD[0]
        for o in range(1, len(conv_OD)):
            sum_NCD.addcmul_(padded_NCD[..., o : o + size, :], weight_OD[o])
        return sum_NCD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NCD: Tensor) -> tuple[Tensor, Tensor | None]:
        x_NCD, conv_OD = ctx.saved_tensors
        taps, size, weight_OD = len(conv_OD), x_NCD.shape[-2], conv_OD.to(x_NCD.dtype)
        padded_NCD, back_NCD = _padded(x_NCD, taps), _padded(grad_NCD, taps)
        dx_NCD = back_NCD[..., :size, :] * weight_OD[taps - 1]
        for o in range(1, taps):
            dx_NCD.addcmul_(back_NCD[..., o : o + size, :], weight_OD[taps - 1 - o])
        if not ctx.needs_input_grad[1]:
            return dx_NCD, None
        # In the weights' precision: a bf16 sum over all tokens would be mostly rounding.
        dims = list(range(grad_NCD.dim() - 1))
        sums = [(padded_NCD[..., o : o + size, :] * grad_NCD).sum(dims, dtype=conv_OD.dtype) for o in range(taps)]
        return dx_NCD, torch.stack(sums)


def _padded(x_NCD: Tensor, taps: int) -> Tensor:
    """Return x with zeros around each chunk, as many as a tap can reach."""
    return F.pad(x_NCD, (0, 0, taps // 2, taps // 2))


def targets_torch(x_BNCD: Tensor, *, conv_OD: Tensor, target_DD: Tensor, scale_BNC1: Tensor) -> Tensor:
    """Return what the in-place memory writes: scale * (conv(x) W_t)."""
    return (neighbours(x_BNCD, conv_OD) @ target_DD.to(x_BNCD.dtype)) * scale_BNC1
