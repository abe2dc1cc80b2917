"""LaCT, all tokens of a chunk at once: while a chunk is open, its weights stand still.

kernels/lact/naive.py has the definition, with the gradient by autograd; here it is written out.
Shapes: B lanes times heads, N chunks, C cells per chunk, K head width, F hidden width,
J = 3 weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.kernels.lact.memory import LactMemory, LactState, close_chunk, row_norms, swiglu
from ttt.kernels.scan import gated_scan
from ttt.kernels.states import Weights, cast, lane_masks, select, state_dtype, zeros_of


def lact_chunk(
    q_BNCK: Tensor,
    *,
    k_BNCK: Tensor,
    v_BNCK: Tensor,
    lr_BNCJ: Tensor,
    mu_BNC: Tensor,
    token_BNC: Tensor,
    opens_BN: Tensor,
    begins_BN: Tensor,
    closes_BN: Tensor,
    state: LactState,
    initial: Weights,
    muon: bool,
) -> tuple[Tensor, LactState]:
    """Return what `lact_naive` returns, except for what empty cells read."""
    dtype = state_dtype(q_BNCK)
    q, k, v = (x.to(dtype) for x in (q_BNCK, k_BNCK, v_BNCK))
    # Empty cells write nothing because their step is 0.
    lr_BNCJ = torch.where(token_BNC.unsqueeze(-1), lr_BNCJ.to(dtype), 0)
    mu_sum_BN, count_BN, *sums = _chunk_sums(
        mu_BNC.to(dtype), token_BNC=token_BNC, drops_BN=opens_BN | begins_BN, closes_BN=closes_BN, state=state
    )
    # A chunk without tokens has no mean; it does not close either.
    mu_BN = mu_sum_BN / count_BN.clamp(min=1)
    opens, begins, closes = map(lane_masks, (opens_BN, begins_BN, closes_BN & (count_BN > 0)))
    first = cast(initial, dtype)
    start: LactMemory = first, zeros_of(first), zeros_of(first)
    memory: LactMemory = cast(state.weights, dtype), cast(state.momentum, dtype), cast(state.pending, dtype)
    norms = row_norms(first)
    reads = []
    # A bf16 autocast would round the states.
    with torch.autocast(q.device.type, enabled=False):
        cells = zip(*(x.unbind(1) for x in (q, k, v, lr_BNCJ, mu_BN)), opens, begins, closes, strict=True)
        for q_BCK, k_BCK, v_BCK, lr_BCJ, mu_B, opened_B, began_B, closed_B in cells:
            weights, momentum, pending = _choose(opened_B, start, memory)
            pending = select(began_B, start[2], pending)
            reads.append(swiglu(q_BCK, weights=weights))
            pending = with_writes(pending, k_BCK=k_BCK, v_BCK=v_BCK, lr_BCJ=lr_BCJ, weights=weights)
            memory = weights, momentum, pending
            # Muon is the dearest part: chunks that close in no lane skip it.
            if closed_B is not False:
                after = close_chunk(memory, mu=mu_B[:, None, None], norms=norms, muon=muon)
                memory = _choose(closed_B, after, memory)
    return torch.stack(reads, dim=1).to(q_BNCK.dtype), LactState(*memory, *sums)


def with_writes(pending: Weights, *, k_BCK: Tensor, v_BCK: Tensor, lr_BCJ: Tensor, weights: Weights) -> Weights:
    """Return the sum G after the writes of these cells.

    The gradient of -<f(k), v> written out, with silu(a)' = s (1 + a (1 - s)), s = sigmoid(a).
    """
    lr0_BC1, lr1_BC1, lr2_BC1 = lr_BCJ.split(1, dim=-1)
    a_BCF, u_BCF = k_BCK @ weights["w0"].mT, k_BCK @ weights["w2"].mT
    s_BCF = torch.sigmoid(a_BCF)
    silu_BCF = a_BCF * s_BCF
    back_BCF = v_BCK @ weights["w1"]
    # The gradient reaches W0 k through W1, times W2 k, times silu'.
    slope_BCF = back_BCF * u_BCF * (s_BCF + silu_BCF * (1 - s_BCF))
    return {
        "w0": torch.baddbmm(pending["w0"], slope_BCF.mT, lr0_BC1 * k_BCK),
        "w1": torch.baddbmm(pending["w1"], (lr1_BC1 * v_BCK).mT, silu_BCF * u_BCF),
        "w2": torch.baddbmm(pending["w2"], (back_BCF * silu_BCF).mT, lr2_BC1 * k_BCK),
    }


def _chunk_sums(
    mu_BNC: Tensor, *, token_BNC: Tensor, drops_BN: Tensor, closes_BN: Tensor, state: LactState
) -> tuple[Tensor, ...]:
    """Return the sum of mu and the number of tokens of every chunk [B, N], and of the open one [B].

    They include what earlier pieces of a chunk left pending.
    """
    sums_BN2 = torch.stack([torch.where(token_BNC, mu_BNC, 0), token_BNC.expand_as(mu_BNC)], dim=-1).sum(2)
    # The scan sums over the pieces of a chunk: a gate of 0 ends the sum where a chunk begins.
    keeps_BN = ~(drops_BN | F.pad(closes_BN[:, :-1], (1, 0)))
    start_B2 = torch.stack([state.mu_sum_B, state.count_B], dim=-1).to(mu_BNC.dtype)
    before_BN2, last_B2 = gated_scan(sums_BN2, gate_BN=keeps_BN.to(mu_BNC.dtype), start_BX=start_B2)
    # A chunk that closes leaves nothing open.
    open_B2 = torch.where(closes_BN[:, -1:], 0, last_B2)
    return *(before_BN2 + sums_BN2).unbind(-1), *open_B2.unbind(-1)


def _choose(mask_B: Tensor | bool, yes: LactMemory, no: LactMemory) -> LactMemory:
    """Return `yes` for the lanes where the mask holds, else `no`."""
    return select(mask_B, yes[0], no[0]), select(mask_B, yes[1], no[1]), select(mask_B, yes[2], no[2])
