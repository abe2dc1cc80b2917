"""The states of the in-place memory in one Triton kernel.

The lean form moves an fp32 state of D F numbers through memory about five times per block (read it,
add to it, round it): on an H100 that, not arithmetic, is the cost of 512 tokens. Here a program
holds one tile of S in registers from the first block to the last and stores only what reads need, S
before each block in the inputs' precision. S is an fp32 sum with no rounded products in between.
Reads are torch's: one product for all blocks. Reading in the same program would mean a sum over all
tiles along F: D fp32 atomics per token and tile, and results that differ from run to run.
The backward pass is torch's, through `inplace_lean`.
Shapes: B batch (lanes), N chunks, C tokens per chunk, J blocks, G chunks per block, L = G C tokens
per block, D model width, F feed-forward width.
"""
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator"

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from ttt.kernels.inplace.gates import GateProducts, gate_products
from ttt.kernels.inplace.lean import inplace_lean
from ttt.kernels.inplace.triton_precision import factor_types, longest_side, warps
from ttt.kernels.recomputed import Recomputed
from ttt.kernels.states import ReadAndState
from ttt.kernels.tiles import tile

# The most memory that the states before a group of blocks may take.
STATES_BYTES = 2**28


def inplace_triton(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor, block: int = 1
) -> ReadAndState:
    """Return what `inplace_lean` returns without a frozen weight."""
    inputs = (q_BNCF, k_BNCF, v_BNCD, gate_BN, state_BDF)
    read_BNCD, last_BDF = Recomputed.apply(partial(_inplace, block=block), partial(_inplace_form, block=block), *inputs)
    return read_BNCD, last_BDF


def _inplace_form(
    q_BNCF: Tensor, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor, *, block: int
) -> ReadAndState:
    return inplace_lean(q_BNCF, k_BNCF=k_BNCF, v_BNCD=v_BNCD, gate_BN=gate_BN, state_BDF=state_BDF, block=block)


def _inplace(
    q_BNCF: Tensor, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor, *, block: int
) -> ReadAndState:
    lanes, chunks = q_BNCF.shape[:2]
    products = GateProducts(*(x.expand(lanes, *x.shape[1:]) for x in gate_products(gate_BN.float(), block)))
    left_BNCD = v_BNCD
    if block > 1:
        left_BNCD = v_BNCD * products.to_end_BJG.flatten(1)[:, :chunks, None, None].to(v_BNCD.dtype)
    whole = chunks // block
    # Memory decides how many blocks are made at a time: reads need a state for each.
    group = max(1, STATES_BYTES // (state_BDF.numel() * q_BNCF.element_size()))
    # Whole blocks, a group at a time; the chunks that remain are a shorter block.
    spans = [(j, min(j + group, whole), block) for j in range(0, whole, group)]
    if chunks % block:
        spans.append((whole, whole + 1, chunks % block))
    reads = []
    with torch.autocast(q_BNCF.device.type, enabled=False):
        for first, end, width in spans:
            j, n = slice(first, end), slice(first * block, first * block + (end - first) * width)
            before_BJDF, state_BDF = _states(
                k_BNCF[:, n], v_BNCD=left_BNCD[:, n], whole_BJ=products.whole_BJ[:, j], state_BDF=state_BDF
            )
            q_BJLF, k_BJLF, v_BJLD = (x[:, n].unflatten(1, (-1, width)).flatten(2, 3) for x in (q_BNCF, k_BNCF, v_BNCD))
            since_BJG = products.since_start_BJG[:, j, :width]
            between_BJGG = products.between_BJGG[:, j, :width, :width]
            read_BJLD = _read(
                q_BJLF, k_BJLF=k_BJLF, v_BJLD=v_BJLD, before_BJDF=before_BJDF, since_BJG=since_BJG,
                between_BJGG=between_BJGG,
            )  # fmt: skip
            reads.append(read_BJLD.flatten(1, 2).unflatten(1, (-1, q_BNCF.shape[2])))
    return torch.cat(reads, 1), state_BDF


def _read(
    q_BJLF: Tensor, *, k_BJLF: Tensor, v_BJLD: Tensor, before_BJDF: Tensor, since_BJG: Tensor, between_BJGG: Tensor
) -> Tensor:
    """Return O = a * (Q S^T) + ((Q K^T) * M) V for all blocks at once."""
    size, dtype = q_BJLF.shape[2] // since_BJG.shape[2], q_BJLF.dtype
    read_BJLD = q_BJLF @ before_BJDF.mT
    read_BJLD *= since_BJG.repeat_interleave(size, 2)[..., None].to(dtype)
    if since_BJG.shape[2] > 1:
        mask_BJLL = between_BJGG.repeat_interleave(size, 2).repeat_interleave(size, 3).to(dtype)
        read_BJLD += (mask_BJLL * (q_BJLF @ k_BJLF.mT)) @ v_BJLD
    return read_BJLD


def _states(k_BNCF: Tensor, *, v_BNCD: Tensor, whole_BJ: Tensor, state_BDF: Tensor) -> ReadAndState:
    """Return S before every block, [B, J, D, F], and after the last one, [B, D, F].

    The former are in the inputs' precision, the latter is fp32.
    """
    lanes, blocks = whole_BJ.shape
    mlp_width, width, tokens = k_BNCF.shape[-1], v_BNCD.shape[-1], k_BNCF.shape[1:3].numel() // blocks
    before_BJDF = k_BNCF.new_empty(lanes, blocks, width, mlp_width)
    last_BDF = torch.empty(lanes, width, mlp_width, dtype=torch.float32, device=k_BNCF.device)
    # A slice of chunks leaves gaps between lanes, which strides can express; the tokens of a lane
    # must lie together.
    k_BNCF, v_BNCD = (x if x[0].is_contiguous() else x.contiguous() for x in (k_BNCF, v_BNCD))
    longest = longest_side(k_BNCF.dtype)
    tile_D, tile_F = tile(width, longest), tile(mlp_width, longest)
    _, multiplied = factor_types(k_BNCF.dtype, on_gpu=k_BNCF.is_cuda)
    _states_kernel[(triton.cdiv(mlp_width, tile_F), triton.cdiv(width, tile_D), lanes)](
        k_BNCF, v_BNCD, whole_BJ.contiguous(), state_BDF.contiguous(), before_BJDF, last_BDF,
        k_BNCF.stride(0), v_BNCD.stride(0), blocks, tokens,
        D=width, F=mlp_width, TD=tile_D, TF=tile_F, L=tile(tokens, longest // 2),
        MMA=multiplied, num_warps=warps(tile_D, tile_F),
    )  # fmt: skip
    return before_BJDF, last_BDF


@triton.jit(do_not_specialize=["blocks", "length"])
def _states_kernel(
    k_ptr: tl.tensor, v_ptr: tl.tensor, whole_ptr: tl.tensor, start_ptr: tl.tensor, before_ptr: tl.tensor,
    last_ptr: tl.tensor, k_lane: tl.tensor, v_lane: tl.tensor, blocks: tl.tensor, length: tl.tensor,
    D: tl.constexpr, F: tl.constexpr, TD: tl.constexpr, TF: tl.constexpr, L: tl.constexpr, MMA: tl.constexpr,
) -> None:  # fmt: skip
    lane = tl.program_id(2).to(tl.int64)
    at_D = tl.program_id(1) * TD + tl.arange(0, TD)
    at_F = tl.program_id(0) * TF + tl.arange(0, TF)
    at_DF = at_D[:, None] * F + at_F[None, :]
    in_DF = (at_D < D)[:, None] & (at_F < F)[None, :]
    state_DF = tl.load(start_ptr + lane * D * F + at_DF, mask=in_DF, other=0.0).to(tl.float32)
    k_ptr, v_ptr = k_ptr + lane * k_lane, v_ptr + lane * v_lane
    before_ptr = before_ptr + lane * blocks * D * F
    # A write changes each entry of S on its own: programs never need each other's tiles.
    for j in range(0, blocks):
        tl.store(before_ptr + at_DF, state_DF, mask=in_DF)
        before_ptr += D * F
        state_DF *= tl.load(whole_ptr + lane * blocks + j)
        for first in range(0, length, L):
            at_L = first + tl.arange(0, L)
            in_L = (at_L < length)[:, None]
            k_LF = tl.load(k_ptr + at_L[:, None] * F + at_F[None, :], mask=in_L & (at_F < F)[None, :], other=0.0)
            v_LD = tl.load(v_ptr + at_L[:, None] * D + at_D[None, :], mask=in_L & (at_D < D)[None, :], other=0.0)
            # Products go straight into the fp32 accumulator: nothing is rounded between writes.
            state_DF = tl.dot(tl.trans(v_LD).to(MMA), k_LF.to(MMA), state_DF, input_precision="tf32x3")
        k_ptr += length * F
        v_ptr += length * D
    tl.store(last_ptr + lane * D * F + at_DF, state_DF, mask=in_DF)
