"""LaCT: large chunks write into a SwiGLU network, with momentum, Muon and rows of constant norm.

    f(x) = W1 (silu(W0 x) * (W2 x));  o_c = f(q_c)    with the weights from before the chunk: apply, then update
    G_j  = sum_c lr_jc (-grad_j l_c),  l_c = -<f(k_c), v_c>
    M_j <- mu M_j + G_j                               mu: the mean of mu_c over the tokens of the chunk
    W_j <- rownorm(W_j + P(M_j))                      P: identity, or Muon; rows keep the norm they began with

A chunk that `begins_BN` drops what an unfinished one left pending (its document ended).
Large-chunk test-time training (arXiv 2505.23884, section 3). States are fp32 whatever the inputs are.
Weights: {w0 [B, F, K], w1 [B, K, F], w2 [B, F, K]}.
Shapes: B lanes times heads, N chunks, C cells a chunk, K head width, F hidden width, J = 3 weights, X and Y any width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.kernels.scan import gated_scan
from ttt.kernels.ttt_layer.chunk import Weights, lane_masks, select, stacked

NAMES = ("w0", "w1", "w2")
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
MUON_STEPS = 5

# Weights, momentum, and the sum G so far of the open chunk.
Memory = tuple[Weights, Weights, Weights]


class LactState(NamedTuple):
    """`pending`, `mu_sum_B`, `count_B`: the sum G, the sum of mu and the number of tokens of the open chunk."""

    weights: Weights
    momentum: Weights
    pending: Weights
    mu_sum_B: Tensor
    count_B: Tensor


def zeros(weights: Weights) -> Weights:
    return {name: torch.zeros_like(w) for name, w in weights.items()}


def swiglu(x: Tensor, *, weights: Weights) -> Tensor:
    """f(x) = W1 (silu(W0 x) * (W2 x)), of [B, C, K] or of one lane's [K]."""
    return (F.silu(x @ weights["w0"].mT) * (x @ weights["w2"].mT)) @ weights["w1"].mT


def lact_loss(weights: Weights, *, k_K: Tensor, v_K: Tensor) -> Tensor:
    """-<f(k), v>, one token."""
    return -(swiglu(k_K, weights=weights) * v_K).sum()


def newton_schulz(m_BXY: Tensor) -> Tensor:
    """Muon's P: five steps of X <- a X + b (X X^T) X + c (X X^T)^2 X take every singular value to about 1."""
    a, b, c = NEWTON_SCHULZ
    wide = m_BXY.shape[-2] <= m_BXY.shape[-1]
    x_BXY = m_BXY if wide else m_BXY.mT
    x_BXY = x_BXY / (torch.linalg.matrix_norm(x_BXY, keepdim=True) + 1e-7)
    for _ in range(MUON_STEPS):
        square_BXX = x_BXY @ x_BXY.mT
        x_BXY = a * x_BXY + (b * square_BXX + c * square_BXX @ square_BXX) @ x_BXY
    return x_BXY if wide else x_BXY.mT


def close_chunk(memory: Memory, *, mu: Tensor, norms: Weights, muon: bool) -> Memory:
    """M <- mu M + G;  W <- rownorm(W + P(M));  the next chunk has nothing pending."""
    weights, momentum, pending = memory
    momentum = {name: mu * m + pending[name] for name, m in momentum.items()}
    steps = {name: newton_schulz(m) for name, m in momentum.items()} if muon else momentum
    weights = {name: F.normalize(w + steps[name], dim=-1) * norms[name] for name, w in weights.items()}
    return weights, momentum, zeros(pending)


def one_lane(weights: Weights, b: int, dtype: torch.dtype) -> Weights:
    return {name: w[b].to(dtype) for name, w in weights.items()}


def row_norms(weights: Weights) -> Weights:
    return {name: torch.linalg.vector_norm(w, dim=-1, keepdim=True) for name, w in weights.items()}


def lact_naive(
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
    """The definition: token by token, the gradient of the loss by autograd. Returns o [B, N, C, K], last state."""
    (batch, chunks, size, _), dtype = q_BNCK.shape, torch.promote_types(q_BNCK.dtype, torch.float32)
    q, k, v, lr, mu = (x.to(dtype) for x in (q_BNCK, k_BNCK, v_BNCK, lr_BNCJ, mu_BNC))
    token = token_BNC.expand(batch, -1, -1).tolist()
    opens, begins, closes = (x_BN.expand(batch, -1).tolist() for x_BN in (opens_BN, begins_BN, closes_BN))
    reads, lanes, sums = [], [], []
    for b in range(batch):
        first, weights, momentum, pending = (one_lane(x, b, dtype) for x in (initial, *state[:3]))
        total = torch.stack([state.mu_sum_B[b], state.count_B[b]]).to(dtype)
        for n in range(chunks):
            weights, momentum = (first, zeros(first)) if opens[b][n] else (weights, momentum)
            if begins[b][n] or opens[b][n]:
                pending, total = zeros(first), 0 * total
            for c in range(size):
                reads.append(swiglu(q[b, n, c], weights=weights))
                if token[b][n][c]:
                    grad = torch.func.grad(lact_loss)(weights, k_K=k[b, n, c], v_K=v[b, n, c])
                    pending = {x: pending[x] - lr[b, n, c, j] * grad[x] for j, x in enumerate(NAMES)}
                    total = total + torch.stack([mu[b, n, c], torch.ones_like(mu[b, n, c])])
            if closes[b][n] and total[1] > 0:
                memory = close_chunk(
                    (weights, momentum, pending), mu=total[0] / total[1], norms=row_norms(first), muon=muon
                )
                (weights, momentum, pending), total = memory, 0 * total
        lanes.append((weights, momentum, pending))
        sums.append(total)
    weights, momentum, pending = map(stacked, zip(*lanes, strict=True))
    last = LactState(weights, momentum, pending, *torch.stack(sums, dim=1).unbind())
    return torch.stack(reads).view(q.shape).to(q_BNCK.dtype), last


def lact(
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
    """The same, all tokens of a chunk at once: while a chunk is open its weights stand still."""
    dtype = torch.promote_types(q_BNCK.dtype, torch.float32)
    q, k, v = (x.to(dtype) for x in (q_BNCK, k_BNCK, v_BNCK))
    lr_BNCJ = torch.where(token_BNC.unsqueeze(-1), lr_BNCJ.to(dtype), 0)
    mu_sum_BN, count_BN, *sums = chunk_sums(
        mu_BNC.to(dtype), token_BNC=token_BNC, drops_BN=opens_BN | begins_BN, closes_BN=closes_BN, state=state
    )
    mu_BN = mu_sum_BN / count_BN.clamp(min=1)
    opens, begins = lane_masks(opens_BN), lane_masks(begins_BN)
    closes = lane_masks(closes_BN & (count_BN > 0))
    first, *lane = ({name: w.to(dtype) for name, w in x.items()} for x in (initial, *state[:3]))
    start: Memory = first, zeros(first), zeros(first)
    memory: Memory = lane[0], lane[1], lane[2]
    norms = row_norms(first)
    reads = []
    # A bf16 autocast would round the states.
    with torch.autocast(q.device.type, enabled=False):
        cells = zip(*(x.unbind(1) for x in (q, k, v, lr_BNCJ, mu_BN)), opens, begins, closes, strict=True)
        for q_BCK, k_BCK, v_BCK, lr_BCJ, mu_B, opened_B, began_B, closed_B in cells:
            weights, momentum, pending = choose(opened_B, start, memory)
            pending = select(began_B, start[2], pending)
            reads.append(swiglu(q_BCK, weights=weights))
            pending = written(pending, k_BCK=k_BCK, v_BCK=v_BCK, lr_BCJ=lr_BCJ, weights=weights)
            memory = weights, momentum, pending
            if closed_B is not False:
                after = close_chunk(memory, mu=mu_B[:, None, None], norms=norms, muon=muon)
                memory = choose(closed_B, after, memory)
    return torch.stack(reads, dim=1).to(q_BNCK.dtype), LactState(*memory, *sums)


def chunk_sums(
    mu_BNC: Tensor, *, token_BNC: Tensor, drops_BN: Tensor, closes_BN: Tensor, state: LactState
) -> tuple[Tensor, ...]:
    """Sum of mu and number of tokens of every chunk, with what was pending [B, N]; and what is left open [B]."""
    sums_BN2 = torch.stack([torch.where(token_BNC, mu_BNC, 0), token_BNC.expand_as(mu_BNC)], dim=-1).sum(2)
    keeps_BN = ~(drops_BN | F.pad(closes_BN[:, :-1], (1, 0)))
    start_B2 = torch.stack([state.mu_sum_B, state.count_B], dim=-1).to(mu_BNC.dtype)
    before_BN2, last_B2 = gated_scan(sums_BN2, gate_BN=keeps_BN.to(mu_BNC.dtype), start_BX=start_B2)
    open_B2 = torch.where(closes_BN[:, -1:], 0, last_B2)
    return *(before_BN2 + sums_BN2).unbind(-1), *open_B2.unbind(-1)


def choose(mask_B: Tensor | bool, yes: Memory, no: Memory) -> Memory:
    """Per lane: `yes` where the mask holds, else `no`."""
    return select(mask_B, yes[0], no[0]), select(mask_B, yes[1], no[1]), select(mask_B, yes[2], no[2])


def written(pending: Weights, *, k_BCK: Tensor, v_BCK: Tensor, lr_BCJ: Tensor, weights: Weights) -> Weights:
    """G with these cells: the gradient of -<f(k), v> written out, with silu(a)' = s (1 + a (1 - s))."""
    lr0_BC1, lr1_BC1, lr2_BC1 = lr_BCJ.split(1, dim=-1)
    a_BCF, u_BCF = k_BCK @ weights["w0"].mT, k_BCK @ weights["w2"].mT
    s_BCF = torch.sigmoid(a_BCF)
    silu_BCF = a_BCF * s_BCF
    back_BCF = v_BCK @ weights["w1"]
    slope_BCF = back_BCF * u_BCF * (s_BCF + silu_BCF * (1 - s_BCF))
    return {
        "w0": torch.baddbmm(pending["w0"], slope_BCF.mT, lr0_BC1 * k_BCK),
        "w1": torch.baddbmm(pending["w1"], (lr1_BC1 * v_BCK).mT, silu_BCF * u_BCF),
        "w2": torch.baddbmm(pending["w2"], (back_BCF * silu_BCF).mT, lr2_BC1 * k_BCK),
    }
