"""The gated delta rule, sequential over chunks only (the UT transform of arXiv 2406.06484).

D[t, i] is the product of the gates after i up to t, and d_t that of all gates of the chunk up to t:

    S_t = d_t S_0 + sum_{i<=t} D[t, i] u_i k_i^T;  (1 + L) U = beta (V - d K S_0^T)
    L = beta D (K K^T) for i < t

So U = Y - Z S_0^T, where Y and Z need no state: one triangular system solves all chunks at once,
and each state costs one product. kernels/delta/naive.py has the definition.
Shapes: B lanes times heads, T time, N chunks, C tokens per chunk, G = N C, K key width, V value
width, X and Y any width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.kernels.delta.naive import delta_naive
from ttt.kernels.scan import products_between
from ttt.kernels.states import ReadAndState, state_dtype


def delta_chunk(
    q_BTK: Tensor,
    *,
    k_BTK: Tensor,
    v_BTV: Tensor,
    beta_BT: Tensor,
    gate_BT: Tensor,
    state_BVK: Tensor,
    size: int = 32,
) -> ReadAndState:
    """Return what `delta_naive` returns, in chunks of at most `size` tokens."""
    length = q_BTK.shape[1]
    if length == 1:
        # Decoding: there is no chunk over which to share work.
        return delta_naive(q_BTK, k_BTK=k_BTK, v_BTV=v_BTV, beta_BT=beta_BT, gate_BT=gate_BT, state_BVK=state_BVK)
    dtype = state_dtype(q_BTK)
    chunks = -(-length // size)
    inputs = (x.to(dtype) for x in (q_BTK, k_BTK, v_BTV, beta_BT[..., None]))
    # A bf16 autocast would round the states.
    with torch.autocast(q_BTK.device.type, enabled=False):
        # In cells after the last token, beta = 0 writes nothing and gate = 1 forgets nothing.
        q_BNCK, k_BNCK, v_BNCV, beta_BNC1 = (_into_chunks(x, chunks, fill=0.0) for x in inputs)
        gate_BNC1 = _into_chunks(gate_BT[..., None].to(dtype), chunks, fill=1.0)
        decay_BNCC = products_between(gate_BNC1[..., 0])
        # This is d. D leaves out the gate of the first token, which S_0 passes as well.
        since_BNC1 = decay_BNCC[..., :1] * gate_BNC1[..., :1, :]
        step_BNCK = beta_BNC1 * k_BNCK
        # Below the diagonal this is L; `_solve` reads nothing else of it.
        system_BNCC = decay_BNCC * (step_BNCK @ k_BNCK.mT)
        y_BNCV = _solve(system_BNCC, beta_BNC1 * v_BNCV)
        z_BNCK = _solve(system_BNCC, since_BNC1 * step_BNCK)
        # Each key is weighted by the share of its write that is left at the end of the chunk.
        left_BNCK = decay_BNCC[..., -1, :, None] * k_BNCK
        # S_0 of the next chunk is S_0 keep + add.
        add_BNVK = y_BNCV.mT @ left_BNCK
        eye_KK = torch.eye(k_BNCK.shape[-1], dtype=dtype, device=k_BNCK.device)
        keep_BNKK = since_BNC1[..., -1:, :] * eye_KK - z_BNCK.mT @ left_BNCK
        before_BNVK, state_BVK = _states(state_BVK.to(dtype), keep_BNKK=keep_BNKK, add_BNVK=add_BNVK)
        score_BNCC = decay_BNCC * (q_BNCK @ k_BNCK.mT)
        # o = d S_0 q + sum_{i<=t} D[t, i] (k_i . q) u_i, with U = Y - Z S_0^T put in.
        o_BNCV = score_BNCC @ y_BNCV + (since_BNC1 * q_BNCK - score_BNCC @ z_BNCK) @ before_BNVK.mT
    return o_BNCV.flatten(1, 2)[:, :length].to(q_BTK.dtype), state_BVK


def _states(state_BVK: Tensor, *, keep_BNKK: Tensor, add_BNVK: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state before every chunk [B, N, V, K] and the state after the last one."""
    before = []
    for keep_BKK, add_BVK in zip(keep_BNKK.unbind(1), add_BNVK.unbind(1), strict=True):
        before.append(state_BVK)
        state_BVK = torch.baddbmm(add_BVK, state_BVK, keep_BKK)
    return torch.stack(before, dim=1), state_BVK


def _solve(system_XCC: Tensor, target_XCY: Tensor) -> Tensor:
    """Return (1 + L)^-1 target, where L is the part of `system_XCC` below the diagonal."""
    return torch.linalg.solve_triangular(system_XCC, target_XCY, upper=False, unitriangular=True)


def _into_chunks(x_BTX: Tensor, chunks: int, *, fill: float) -> Tensor:
    """Cut [B, T, X] into [B, N, C, X], with the fewest cells after T; those hold `fill`."""
    # 33 tokens become two chunks of 17, rather than one of 32 and a second that is nearly empty.
    extra = -x_BTX.shape[1] % chunks
    x_BGX = F.pad(x_BTX, (0, 0, 0, extra), value=fill) if extra else x_BTX
    return x_BGX.unflatten(1, (chunks, -1))
