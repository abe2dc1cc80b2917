"""The chunk form of the gated delta rule as one Triton kernel whose state never leaves the chip.

    S_t = d_t S_0 + sum_{i<=t} D[t, i] u_i k_i^T
    (1 + L) U = beta (V - d K S_0^T);  L = beta D (K K^T) for i < t

(kernels/delta/chunk.py explains the symbols.) A program walks through one lane with VP rows of the
state: a row of S needs one column of V and no other row of S. Tensors of width V lie with V first,
[VP, C] and [VP, K]: the 64 rows of a Hopper product are then rows of the state, which is both
accumulator and left factor.
L is inverted where it is used, by doubling: if X is the inverse of all diagonal blocks of one size
and M is what L holds between pairs of those blocks, then X - X M X is the inverse for blocks of
twice the size. Unlike a product of powers of L, this never makes numbers larger than those of the
inverse.
The backward pass is torch's, through `delta_chunk`.
Shapes: B lanes times heads, T time, C tokens per chunk, K key width, V value width; KP and VP are
the key and value width of a tile.
"""
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator"

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from ttt.kernels.delta.chunk import delta_chunk
from ttt.kernels.recomputed import Recomputed
from ttt.kernels.states import ReadAndState
from ttt.kernels.tiles import WIDEST_KEY, tile

# (rows of the state, tokens per chunk) for bf16 keys, and for all others. At K = 128 ptxas (sm_90)
# spills some 150 registers; with twice the rows or tokens, more than twice as many. 64 rows are
# what one warpgroup multiplies at a time.
HALF, FULL = (64, 32), (32, 16)


def delta_triton(
    q_BTK: Tensor,
    *,
    k_BTK: Tensor,
    v_BTV: Tensor,
    beta_BT: Tensor,
    gate_BT: Tensor,
    state_BVK: Tensor,
    size: int = 32,
) -> ReadAndState:
    """Return what `delta_chunk` returns.

    A chunk has 16 or 32 tokens; always 16 if q and k are not bf16.
    """
    inputs = (q_BTK, k_BTK, v_BTV, beta_BT, gate_BT, state_BVK)
    read_BTV, last_BVK = Recomputed.apply(partial(_forward, size=size), partial(_torch_form, size=size), *inputs)
    return read_BTV, last_BVK


def _torch_form(
    q_BTK: Tensor, k_BTK: Tensor, v_BTV: Tensor, beta_BT: Tensor, gate_BT: Tensor, state_BVK: Tensor, *, size: int
) -> ReadAndState:
    return delta_chunk(
        q_BTK, k_BTK=k_BTK, v_BTV=v_BTV, beta_BT=beta_BT, gate_BT=gate_BT, state_BVK=state_BVK, size=size
    )


def _forward(
    q_BTK: Tensor, k_BTK: Tensor, v_BTV: Tensor, beta_BT: Tensor, gate_BT: Tensor, state_BVK: Tensor, *, size: int
) -> ReadAndState:
    lanes, length, width = q_BTK.shape
    values = v_BTV.shape[-1]
    half = q_BTK.dtype == k_BTK.dtype == torch.bfloat16
    most_rows, most_tokens = HALF if half else FULL
    rows, chunk = tile(values, most_rows), tile(min(size, length), most_tokens)
    read_BTV = torch.empty(lanes, length, values, dtype=q_BTK.dtype, device=q_BTK.device)
    last_BVK = torch.empty(lanes, values, width, dtype=torch.float32, device=q_BTK.device)
    inputs = (x.contiguous() for x in (q_BTK, k_BTK, v_BTV, beta_BT, gate_BT, state_BVK))
    _delta_kernel[(lanes, triton.cdiv(values, rows))](
        *inputs, read_BTV, last_BVK, length,
        K=width, V=values, KP=tile(width, WIDEST_KEY), VP=rows, C=chunk,
        LEVELS=chunk.bit_length() - 1, HALVES=half,
        # The interpreter cannot multiply bf16: fp32 holds the same numbers.
        MMA=tl.bfloat16 if half and q_BTK.is_cuda else tl.float32,
        num_warps=4, num_stages=2,
    )  # fmt: skip
    return read_BTV, last_BVK


@triton.jit(do_not_specialize=["length"])
def _delta_kernel(
    q_ptr: tl.tensor, k_ptr: tl.tensor, v_ptr: tl.tensor, beta_ptr: tl.tensor, gate_ptr: tl.tensor,
    state_ptr: tl.tensor, read_ptr: tl.tensor, last_ptr: tl.tensor, length: tl.tensor,
    K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr, C: tl.constexpr,
    LEVELS: tl.constexpr, HALVES: tl.constexpr, MMA: tl.constexpr,
) -> None:  # fmt: skip
    lane = tl.program_id(0).to(tl.int64)
    at_K = tl.arange(0, KP)
    at_V = tl.program_id(1) * VP + tl.arange(0, VP)
    q_ptr, k_ptr = q_ptr + lane * length * K, k_ptr + lane * length * K
    v_ptr, read_ptr = v_ptr + lane * length * V, read_ptr + lane * length * V
    beta_ptr, gate_ptr = beta_ptr + lane * length, gate_ptr + lane * length
    state_ptr, last_ptr = state_ptr + lane * V * K, last_ptr + lane * V * K
    at_VK, in_VK = at_V[:, None] * K + at_K[None, :], (at_V < V)[:, None] & (at_K < K)[None, :]
    state_VK = tl.load(state_ptr + at_VK, mask=in_VK, other=0.0).to(tl.float32)
    # One lane's chunks must be walked in order: each needs the state that the one before it left.
    for first in range(0, length, C):
        at_C = first + tl.arange(0, C)
        in_C = at_C < length
        at_CK, in_CK = at_C[:, None] * K + at_K[None, :], in_C[:, None] & (at_K < K)[None, :]
        at_CV, in_CV = at_C[:, None] * V + at_V[None, :], in_C[:, None] & (at_V < V)[None, :]
        k_CK = tl.load(k_ptr + at_CK, mask=in_CK, other=0.0).to(MMA)
        beta_C = tl.load(beta_ptr + at_C, mask=in_C, other=0.0).to(tl.float32)
        # Gates after the last token are 1: nothing is forgotten there, so the state after the last
        # chunk is the state after the last token.
        gate_C = tl.load(gate_ptr + at_C, mask=in_C, other=1.0).to(tl.float32)
        decay_CC, since_C, left_C = _products(gate_C, at_C, C)
        system_CC = beta_C[:, None] * decay_CC * tl.dot(k_CK, tl.trans(k_CK), input_precision="tf32x3")
        inverse_CC = _inverse(system_CC, at_C, LEVELS)
        q_CK = tl.load(q_ptr + at_CK, mask=in_CK, other=0.0).to(MMA)
        score_CC = decay_CC * tl.dot(q_CK, tl.trans(k_CK), input_precision="tf32x3")
        # Both reads of the state stand together: its bf16 halves, which both use, take as many
        # registers as the state itself and can be dropped after them.
        there_VC = since_C[None, :] * _dot(state_VK, tl.trans(k_CK), HALVES, MMA)
        read_VC = since_C[None, :] * _dot(state_VK, tl.trans(q_CK), HALVES, MMA)
        v_CV = tl.load(v_ptr + at_CV, mask=in_CV, other=0.0).to(tl.float32)
        want_VC = beta_C[None, :] * (tl.trans(v_CV) - there_VC)
        u_VC = tl.dot(want_VC, tl.trans(inverse_CC), input_precision="tf32x3")
        # A token reads what its chunk wrote up to and including itself: update, then apply.
        read_VC += tl.dot(u_VC, tl.trans(score_CC), input_precision="tf32x3")
        tl.store(read_ptr + at_CV, tl.trans(read_VC), mask=in_CV)
        # Triton reads no single entry of a tensor: a sum over a mask picks the last one.
        whole = tl.sum(tl.where(at_C == first + C - 1, since_C, 0.0), axis=0)
        state_VK = whole * state_VK + _dot(u_VC * left_C[None, :], k_CK, HALVES, MMA)
    tl.store(last_ptr + at_VK, state_VK, mask=in_VK)


@triton.jit
def _dot(wide: tl.tensor, thin: tl.tensor, HALVES: tl.constexpr, MMA: tl.constexpr) -> tl.tensor:
    """Return wide @ thin. A bf16 `thin` meets `wide` as two bf16 halves, upper and lower bits."""
    if not HALVES:
        return tl.dot(wide, thin, input_precision="tf32x3")
    # Two bf16 products keep 16 bits of the state for the price of tf32's 11.
    high = wide.to(tl.bfloat16)
    low = (wide - high.to(tl.float32)).to(tl.bfloat16)
    return tl.dot(high.to(MMA), thin, tl.dot(low.to(MMA), thin))


@triton.jit
def _products(gate_C: tl.tensor, at_C: tl.tensor, C: tl.constexpr) -> tl.tensor:
    """Return D, d, and the last row of D."""
    # Products only: ratios or logarithms would break at a gate of zero, which starts a document.
    since_CC = tl.cumprod(tl.where(at_C[:, None] > at_C[None, :], gate_C[:, None], 1.0), axis=0)
    decay_CC = tl.where(at_C[:, None] >= at_C[None, :], since_CC, 0.0)
    left_C = tl.sum(tl.where(at_C[:, None] % C == C - 1, decay_CC, 0.0), axis=0)
    return decay_CC, tl.cumprod(gate_C, axis=0), left_C


@triton.jit
def _inverse(system_CC: tl.tensor, at_C: tl.tensor, LEVELS: tl.constexpr) -> tl.tensor:
    """Return (1 + L)^-1, where L is the part of `system_CC` below the diagonal."""
    # The highest bit in which two places differ is the level at which their blocks meet.
    apart_CC = tl.where(at_C[:, None] > at_C[None, :], at_C[:, None] ^ at_C[None, :], 0)
    eye_CC = tl.where(at_C[:, None] == at_C[None, :], 1.0, 0.0)
    inverse_CC = eye_CC - tl.where(apart_CC == 1, system_CC, 0.0)
    for level in tl.static_range(1, LEVELS):
        between_CC = tl.where((apart_CC >> level) == 1, system_CC, 0.0)
        # In full precision for all inputs: an error here would stay in the lane's memory for good.
        joined_CC = tl.dot(between_CC, inverse_CC, input_precision="tf32x3")
        inverse_CC -= tl.dot(inverse_CC, joined_CC, input_precision="tf32x3")
    return inverse_CC
