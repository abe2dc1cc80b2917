"""The in-place memory's writes: targets in one kernel, states in another.

Targets, V = scale * (conv(X) W_t): the convolution is made where the product needs it, tile by tile, and the
scale where its sum still lies in registers. Torch passes [T, D] through memory three times for every tap.

States. The lean form moves a fp32 state of D F numbers through memory about five times a block (read it, add
to it, round it): on an H100 that, not arithmetic, is what 512 tokens cost. Here a program holds one tile of S
in registers from the first block to the last and leaves behind only what reads need, S before each block in
the inputs' precision: an fp32 sum with no rounded products in between. Reads are torch's: one product for
all blocks. Reading in the same program would mean a sum over all tiles along F: D fp32 atomics a token and tile,
and results that differ from run to run. Memory decides how many blocks are made at a time.
The backward pass is torch's, through `targets_torch` and `inplace_lean`.
Shapes: B batch (lanes), N chunks, C tokens a chunk, J blocks, G chunks a block, L = G C tokens a block,
D model width, F feed-forward width, O taps; R rows of tokens; M, K, P tiles of R, D and F or D.
"""
# mypy: disable-error-code="import-not-found, import-untyped, untyped-decorator"

from __future__ import annotations

from functools import partial

import torch
import triton
import triton.language as tl
from torch import Tensor

from ttt.kernels.delta.triton import tile
from ttt.kernels.dispatch import Memory, Outputs, Recomputed, targets_torch
from ttt.kernels.inplace.gates import Weights, gate_weights
from ttt.kernels.inplace.lean import inplace_lean

# What the states before a group of blocks may take.
STATES_BYTES = 2**28
# The longest side of a tile: sums of 128 by 128 are 64 registers a thread; in full precision factors take the rest.
HALF, FULL = 128, 64


def targets_triton(x_BNCD: Tensor, *, conv_OD: Tensor, target_DD: Tensor, scale_BNC1: Tensor) -> Tensor:
    """`targets_torch`, in the precision that torch's product would have under autocast too."""
    (v_BNCD,) = Recomputed.apply(_targets, _targets_form, x_BNCD, conv_OD, target_DD, scale_BNC1)
    return v_BNCD


def _targets_form(*inputs: Tensor) -> Outputs:
    return (targets_torch(*inputs),)


def _targets(x_BNCD: Tensor, conv_OD: Tensor, target_DD: Tensor, scale_BNC1: Tensor) -> Outputs:
    width, rows = x_BNCD.shape[-1], x_BNCD.shape[:-1].numel()
    kind, dtype = x_BNCD.device.type, x_BNCD.dtype
    if torch.is_autocast_enabled(kind):
        dtype = torch.get_autocast_dtype(kind)
    scale_BNC1 = scale_BNC1.expand(*x_BNCD.shape[:-1], 1)
    v_BNCD = torch.empty_like(
        x_BNCD, dtype=torch.promote_types(dtype, scale_BNC1.dtype), memory_format=torch.contiguous_format
    )
    inputs = (x_BNCD, conv_OD.to(x_BNCD.dtype), target_DD.to(dtype), scale_BNC1)
    longest = FULL if dtype == torch.float32 else HALF
    tile_M, tile_K, tile_P = tile(rows, longest), tile(width, 32), tile(width, longest)
    _targets_kernel[(triton.cdiv(width, tile_P), triton.cdiv(rows, tile_M))](
        *(x.contiguous() for x in inputs), v_BNCD, rows,
        D=width, C=x_BNCD.shape[2], TAPS=len(conv_OD), M=tile_M, K=tile_K, P=tile_P,
        **_precision(dtype, x_BNCD.is_cuda), num_warps=8 if tile_M * tile_P > 64 * 64 else 4, num_stages=2,
    )  # fmt: skip
    return (v_BNCD,)


def _precision(dtype: torch.dtype, real: bool) -> dict[str, tl.dtype]:
    """What factors are rounded to, and what is multiplied: the interpreter cannot multiply bf16."""
    thin = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}[dtype]
    return {"THIN": thin, "MMA": thin if real else tl.float32}


@triton.jit(do_not_specialize=["rows"])
def _targets_kernel(
    x_ptr: tl.tensor, conv_ptr: tl.tensor, target_ptr: tl.tensor, scale_ptr: tl.tensor, v_ptr: tl.tensor,
    rows: tl.tensor, D: tl.constexpr, C: tl.constexpr, TAPS: tl.constexpr,
    M: tl.constexpr, K: tl.constexpr, P: tl.constexpr, THIN: tl.constexpr, MMA: tl.constexpr,
) -> None:  # fmt: skip
    row_M = tl.program_id(1) * M + tl.arange(0, M)
    at_P = tl.program_id(0) * P + tl.arange(0, P)
    # Tiles do not keep to chunks: a row finds its neighbours by its place in its own.
    place_M = row_M % C
    sum_MP = tl.full((M, P), 0.0, tl.float32)
    for first in range(0, D, K):
        at_K = first + tl.arange(0, K)
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
        sum_MP = tl.dot(near_MK.to(THIN).to(MMA), target_KP.to(MMA), sum_MP, input_precision="tf32x3")
    scale_M = tl.load(scale_ptr + row_M, mask=row_M < rows, other=0.0).to(tl.float32)
    at_MP = row_M.to(tl.int64)[:, None] * D + at_P[None, :]
    tl.store(v_ptr + at_MP, sum_MP * scale_M[:, None], mask=(row_M < rows)[:, None] & (at_P < D)[None, :])


def inplace_triton(
    q_BNCF: Tensor, *, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor, block: int = 1
) -> Memory:
    """`inplace_lean`, without a frozen weight."""
    inputs = (q_BNCF, k_BNCF, v_BNCD, gate_BN, state_BDF)
    read_BNCD, last_BDF = Recomputed.apply(partial(_inplace, block=block), partial(_inplace_form, block=block), *inputs)
    return read_BNCD, last_BDF


def _inplace_form(
    q_BNCF: Tensor, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor, *, block: int
) -> Memory:
    return inplace_lean(q_BNCF, k_BNCF=k_BNCF, v_BNCD=v_BNCD, gate_BN=gate_BN, state_BDF=state_BDF, block=block)


def _inplace(
    q_BNCF: Tensor, k_BNCF: Tensor, v_BNCD: Tensor, gate_BN: Tensor, state_BDF: Tensor, *, block: int
) -> Memory:
    lanes, chunks = q_BNCF.shape[:2]
    weights = Weights(*(x.expand(lanes, *x.shape[1:]) for x in gate_weights(gate_BN.float(), block)))
    left_BNCD = v_BNCD
    if block > 1:
        left_BNCD = v_BNCD * weights.to_end_BJG.flatten(1)[:, :chunks, None, None].to(v_BNCD.dtype)
    whole = chunks // block
    group = max(1, STATES_BYTES // (state_BDF.numel() * q_BNCF.element_size()))
    # Whole blocks, a group at a time; what remains is a block of its own.
    spans = [(j, min(j + group, whole), block) for j in range(0, whole, group)]
    if chunks % block:
        spans.append((whole, whole + 1, chunks % block))
    reads = []
    with torch.autocast(q_BNCF.device.type, enabled=False):
        for first, end, width in spans:
            j, n = slice(first, end), slice(first * block, first * block + (end - first) * width)
            before_BJDF, state_BDF = _states(
                k_BNCF[:, n], v_BNCD=left_BNCD[:, n], whole_BJ=weights.whole_BJ[:, j], state_BDF=state_BDF
            )
            q_BJLF, k_BJLF, v_BJLD = (x[:, n].unflatten(1, (-1, width)).flatten(2, 3) for x in (q_BNCF, k_BNCF, v_BNCD))
            since_BJG = weights.since_start_BJG[:, j, :width]
            between_BJGG = weights.between_BJGG[:, j, :width, :width]
            read_BJLD = _read(
                q_BJLF, k_BJLF=k_BJLF, v_BJLD=v_BJLD, before_BJDF=before_BJDF, since_BJG=since_BJG,
                between_BJGG=between_BJGG,
            )  # fmt: skip
            reads.append(read_BJLD.flatten(1, 2).unflatten(1, (-1, q_BNCF.shape[2])))
    return torch.cat(reads, 1), state_BDF


def _read(
    q_BJLF: Tensor, *, k_BJLF: Tensor, v_BJLD: Tensor, before_BJDF: Tensor, since_BJG: Tensor, between_BJGG: Tensor
) -> Tensor:
    """a * (Q S^T) + ((Q K^T) * M) V, as kernels/inplace/lean.py has it, for all blocks at once."""
    size, dtype = q_BJLF.shape[2] // since_BJG.shape[2], q_BJLF.dtype
    read_BJLD = q_BJLF @ before_BJDF.mT
    read_BJLD *= since_BJG.repeat_interleave(size, 2)[..., None].to(dtype)
    if since_BJG.shape[2] > 1:
        mask_BJLL = between_BJGG.repeat_interleave(size, 2).repeat_interleave(size, 3).to(dtype)
        read_BJLD += (mask_BJLL * (q_BJLF @ k_BJLF.mT)) @ v_BJLD
    return read_BJLD


def _states(k_BNCF: Tensor, *, v_BNCD: Tensor, whole_BJ: Tensor, state_BDF: Tensor) -> Memory:
    """S before every block, [B, J, D, F] in the inputs' precision, and behind the last, fp32."""
    lanes, blocks = whole_BJ.shape
    mlp_width, width, tokens = k_BNCF.shape[-1], v_BNCD.shape[-1], k_BNCF.shape[1:3].numel() // blocks
    before_BJDF = k_BNCF.new_empty(lanes, blocks, width, mlp_width)
    last_BDF = torch.empty(lanes, width, mlp_width, dtype=torch.float32, device=k_BNCF.device)
    # Lanes may be apart by more than these tokens; tokens are not.
    k_BNCF, v_BNCD = (x if x[0].is_contiguous() else x.contiguous() for x in (k_BNCF, v_BNCD))
    longest = FULL if k_BNCF.dtype == torch.float32 else HALF
    tile_D, tile_F = tile(width, longest), tile(mlp_width, longest)
    _states_kernel[(triton.cdiv(mlp_width, tile_F), triton.cdiv(width, tile_D), lanes)](
        k_BNCF, v_BNCD, whole_BJ.contiguous(), state_BDF.contiguous(), before_BJDF, last_BDF,
        k_BNCF.stride(0), v_BNCD.stride(0), blocks, tokens,
        D=width, F=mlp_width, TD=tile_D, TF=tile_F, L=tile(tokens, longest // 2),
        MMA=_precision(k_BNCF.dtype, k_BNCF.is_cuda)["MMA"], num_warps=8 if tile_D * tile_F > 64 * 64 else 4,
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
    for j in range(0, blocks):
        tl.store(before_ptr + at_DF, state_DF, mask=in_DF)
        before_ptr += D * F
        state_DF *= tl.load(whole_ptr + lane * blocks + j)
        for first in range(0, length, L):
            at_L = first + tl.arange(0, L)
            in_L = (at_L < length)[:, None]
            k_LF = tl.load(k_ptr + at_L[:, None] * F + at_F[None, :], mask=in_L & (at_F < F)[None, :], other=0.0)
            v_LD = tl.load(v_ptr + at_L[:, None] * D + at_D[None, :], mask=in_L & (at_D < D)[None, :], other=0.0)
            state_DF = tl.dot(tl.trans(v_LD).to(MMA), k_LF.to(MMA), state_DF, input_precision="tf32x3")
        k_ptr += length * F
        v_ptr += length * D
    tl.store(last_ptr + lane * D * F + at_DF, state_DF, mask=in_DF)
