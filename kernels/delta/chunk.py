"""The gated delta rule: a matrix memory that replaces what a key held, rather than adding to it.

    S = g_t S_{t-1};  S_t = S + beta_t (v_t - S k_t) k_t^T;  o_t = S_t q_t   (update, then apply)

DeltaNet (arXiv 2406.06484) with the gate of Gated DeltaNet (arXiv 2412.06464). A gate of exactly 0 starts a
document; beta = 0 with gate = 1 is padding. States, and all sums inside, are fp32 (fp64 for fp64 inputs).
Shapes: B lanes times heads, T time, N chunks, C tokens a chunk, K key width, V value width, X and Y any.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Memory = tuple[Tensor, Tensor]


def delta_naive(
    q_BTK: Tensor, *, k_BTK: Tensor, v_BTV: Tensor, beta_BT: Tensor, gate_BT: Tensor, state_BVK: Tensor
) -> Memory:
    """The definition, token by token. Returns what was read, [B, T, V], and the last state."""
    dtype = state_dtype(q_BTK)
    state_BVK = state_BVK.to(dtype)
    reads = []
    inputs = (x.to(dtype).unbind(1) for x in (q_BTK, k_BTK, v_BTV, beta_BT[..., None], gate_BT[..., None, None]))
    with torch.autocast(q_BTK.device.type, enabled=False):
        for q_BK, k_BK, v_BV, beta_B1, gate_B11 in zip(*inputs, strict=True):
            state_BVK = gate_B11 * state_BVK
            u_BV = beta_B1 * (v_BV - (state_BVK @ k_BK[..., None])[..., 0])
            state_BVK = state_BVK + u_BV[..., None] * k_BK[:, None]
            reads.append((state_BVK @ q_BK[..., None])[..., 0])
    return torch.stack(reads, dim=1).to(q_BTK.dtype), state_BVK


def delta_chunk(
    q_BTK: Tensor,
    *,
    k_BTK: Tensor,
    v_BTV: Tensor,
    beta_BT: Tensor,
    gate_BT: Tensor,
    state_BVK: Tensor,
    size: int = 32,
) -> Memory:
    """The same, sequential over chunks only (the UT transform: one triangular system in each chunk).

    With D[t, i] the product of the gates behind i up to t, and d_t that of all gates of the chunk up to t,

        S_t = d_t S_0 + sum_{i<=t} D[t, i] u_i k_i^T;  (1 + L) U = beta (V - d K S_0^T);  L = beta D (K K^T), i < t

    so U = Y - Z S_0^T, where Y and Z need no state: all chunks are solved at once, and a state costs one product.
    """
    length = q_BTK.shape[1]
    if length == 1:
        return delta_naive(q_BTK, k_BTK=k_BTK, v_BTV=v_BTV, beta_BT=beta_BT, gate_BT=gate_BT, state_BVK=state_BVK)
    dtype = state_dtype(q_BTK)
    chunks = -(-length // size)
    inputs = (x.to(dtype) for x in (q_BTK, k_BTK, v_BTV, beta_BT[..., None]))
    with torch.autocast(q_BTK.device.type, enabled=False):
        q_BNCK, k_BNCK, v_BNCV, beta_BNC1 = (into_chunks(x, chunks, fill=0.0) for x in inputs)
        gate_BNC1 = into_chunks(gate_BT[..., None].to(dtype), chunks, fill=1.0)
        weight_BNCC = products_between(gate_BNC1[..., 0])
        start_BNC1 = weight_BNCC[..., :1] * gate_BNC1[..., :1, :]
        step_BNCK = beta_BNC1 * k_BNCK
        system_BNCC = weight_BNCC * (step_BNCK @ k_BNCK.mT)
        y_BNCV = solve(system_BNCC, beta_BNC1 * v_BNCV)
        z_BNCK = solve(system_BNCC, start_BNC1 * step_BNCK)
        left_BNCK = weight_BNCC[..., -1, :, None] * k_BNCK
        add_BNVK = y_BNCV.mT @ left_BNCK
        eye_KK = torch.eye(k_BNCK.shape[-1], dtype=dtype, device=k_BNCK.device)
        keep_BNKK = start_BNC1[..., -1:, :] * eye_KK - z_BNCK.mT @ left_BNCK
        before = []
        state_BVK = state_BVK.to(dtype)
        for keep_BKK, add_BVK in zip(keep_BNKK.unbind(1), add_BNVK.unbind(1), strict=True):
            before.append(state_BVK)
            state_BVK = torch.baddbmm(add_BVK, state_BVK, keep_BKK)
        read_BNCC = weight_BNCC * (q_BNCK @ k_BNCK.mT)
        o_BNCV = read_BNCC @ y_BNCV + (start_BNC1 * q_BNCK - read_BNCC @ z_BNCK) @ torch.stack(before, dim=1).mT
    return o_BNCV.flatten(1, 2)[:, :length].to(q_BTK.dtype), state_BVK


def solve(system_XCC: Tensor, target_XCY: Tensor) -> Tensor:
    """(1 + L)^-1 target, L being what of `system_XCC` lies below the diagonal."""
    return torch.linalg.solve_triangular(system_XCC, target_XCY, upper=False, unitriangular=True)


def state_dtype(x: Tensor) -> torch.dtype:
    """The dtype of the states behind inputs like `x`."""
    return torch.promote_types(x.dtype, torch.float32)


def into_chunks(x_BTX: Tensor, chunks: int, *, fill: float) -> Tensor:
    """[B, T, X] -> [B, N, C, X], with the fewest cells beyond T; those hold `fill`."""
    beyond = -x_BTX.shape[1] % chunks
    x_BGX = F.pad(x_BTX, (0, 0, 0, beyond), value=fill) if beyond else x_BTX
    return x_BGX.unflatten(1, (chunks, -1))


def products_between(gate_XC: Tensor) -> Tensor:
    """[..., C] -> [..., C, C]: at [t, i] the product of the gates behind i up to t; 1 at i = t, 0 above.

    Row by row: neither a division nor a logarithm, so gates of zero, and their gradients, are exact.
    """
    eye_CC = torch.eye(gate_XC.shape[-1], dtype=gate_XC.dtype, device=gate_XC.device)
    row_XC = torch.zeros_like(gate_XC)
    rows = []
    for gate_X1, one_C in zip(gate_XC.split(1, dim=-1), eye_CC, strict=True):
        row_XC = torch.addcmul(one_C, gate_X1, row_XC)
        rows.append(row_XC)
    return torch.stack(rows, dim=-2)
