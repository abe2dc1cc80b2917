"""The targets of the in-place memory in one Triton kernel: V = scale * (conv(X) W_t).

The convolution is made where the product needs it, tile by tile, and the scale is applied where the
sum still lies in registers. Torch passes [T, D] through memory three times for every tap.
The backward pass is torch's, through `targets_torch`.
Shapes: B batch (lanes), N chunks, C tokens per chunk, D model width, O taps; R rows of tokens;
M, K, P tiles of R, D and D.
"""
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ttt.kernels.inplace.rows import targets_torch
from ttt.kernels.inplace.triton_precision import factor_types, longest_side, warps
from ttt.kernels.recomputed import Outputs, Recomputed
from ttt.kernels.tiles import tile


def targets_triton(x_BNCD: Tensor, *, conv_OD: Tensor, target_DD: Tensor, scale_BNC1: Tensor) -> Tensor:
    """Return what `targets_torch` returns, under autocast too."""
    (v_BNCD,) = Recomputed.apply(_targets, _targets_form, x_BNCD, conv_OD, target_DD, scale_BNC1)
    return v_BNCD


def _targets_form(x_BNCD: Tensor, conv_OD: Tensor, target_DD: Tensor, scale_BNC1: Tensor) -> Outputs:
    return (targets_torch(x_BNCD, conv_OD=conv_OD, target_DD=target_DD, scale_BNC1=scale_BNC1),)


def _targets(x_BNCD: Tensor, conv_OD: Tensor, target_DD: Tensor, scale_BNC1: Tensor) -> Outputs:
    width, rows = x_BNCD.shape[-1], x_BNCD.shape[:-1].numel()
    kind, dtype = x_BNCD.device.type, x_BNCD.dtype
    # A custom kernel is invisible to autocast, which would have cast the inputs of torch's product.
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    scale_BNC1 = scale_BNC1.expand(*x_BNCD.shape[:-1], 1)
    v_BNCD = torch.empty_like(
        x_BNCD, dtype=torch.promote_types(dtype, scale_BNC1.dtype), memory_format=torch.contiguous_format
    )
    inputs = (x_BNCD, conv_OD.to(x_BNCD.dtype), target_DD.to(dtype), scale_BNC1)
    longest = longest_side(dtype)
    tile_M, tile_K, tile_P = tile(rows, longest), tile(width, 32), tile(width, longest)
    thin, multiplied = factor_types(dtype, on_gpu=x_BNCD.is_cuda)
    _targets_kernel[(triton.cdiv(width, tile_P), triton.cdiv(rows, tile_M))](
        *(x.contiguous() for x in inputs), v_BNCD, rows,
        D=width, C=x_BNCD.shape[2], TAPS=len(conv_OD), M=tile_M, K=tile_K, P=tile_P,
        THIN=thin, MMA=multiplied, num_warps=warps(tile_M, tile_P), num_stages=2,
    )  # fmt: skip
    return (v_BNCD,)


@triton.jit(do_not_specialize=["rows"])
def _targets_kernel(
    x_ptr: tl.tensor, conv_ptr: tl.tensor, target_ptr: tl.tensor, scale_ptr: tl.tensor, v_ptr: tl.tensor,
    rows: tl.tensor, D: tl.constexpr, C: tl.constexpr, TAPS: tl.constexpr,
    M: tl.constexpr, K: tl.constexpr, P: tl.constexpr, THIN: tl.constexpr, MMA: tl.constexpr,
) -> None:  # fmt: skip
    row_M = tl.program_id(1) * M + tl.arange(0, M)
    at_P = tl.program_id(0) * P + tl.arange(0, P)
    # A tile may span several chunks: each row finds its neighbours by its place in its own chunk.
    place_M = row_M % C
    sum_MP = tl.full((M, P), 0.0, tl.float32)
    for first in range(0, D, K):
        at_K = first + tl.arange(0, K)
        # The convolution of this tile is made here, from rows that several taps read from cache.
        near_MK = tl.full((M, K), 0.0, tl.float32)
        for o in tl.static_range(TAPS):
            there_M = place_M + (o - TAPS // 2)
            in_M = (there_M >= 0) & (there_M < C) & (row_M < rows)
            at_MK = (row_M + (o - TAPS // 2)).to(tl.int64)[:, None] * D + at_K[None, :]
            x_MK = tl.load(x_ptr + at_MK, mask=in_M[:, None] & (at_K < D)[None, :], other=0.0)
            tap_K = tl.load(conv_ptr + o * D + at_K, mask=at_K < D, other=0.0)
            near_MK += x_MK.to(tl.float32) * tap_K.to(tl.float32)[None, :]
        in_KP = (at_K < D)[:, None] & (at_P < D)[None, :]
        target_KP = tl.load(target_ptr + at_K[:, None] * D + at_P[None, :], mask=in_KP, other=0.0)
        # Rounded as torch would round the convolution, so that both forms give the same numbers.
        sum_MP = tl.dot(near_MK.to(THIN).to(MMA), target_KP.to(MMA), sum_MP, input_precision="tf32x3")
    scale_M = tl.load(scale_ptr + row_M, mask=row_M < rows, other=0.0).to(tl.float32)
    at_MP = row_M.to(tl.int64)[:, None] * D + at_P[None, :]
    tl.store(v_ptr + at_MP, sum_MP * scale_M[:, None], mask=(row_M < rows)[:, None] & (at_P < D)[None, :])
