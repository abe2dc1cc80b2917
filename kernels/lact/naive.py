"""LaCT: large chunks write into a SwiGLU network, with momentum, Muon and rows of constant norm.

    f(x) = W1 (silu(W0 x) * (W2 x));  o_c = f(q_c)  weights before the chunk: apply, then update
    G_j  = sum_c lr_jc (-grad_j l_c),  l_c = -<f(k_c), v_c>
    M_j <- mu M_j + G_j                             mu: the mean of mu_c over the tokens
    W_j <- rownorm(W_j + P(M_j))                    P: identity, or Muon; rows keep their norm

Where `begins_BN` holds, a chunk drops what an unfinished chunk left pending (its document ended).
Large-chunk test-time training (arXiv 2505.23884, section 3). States are fp32, or fp64
for fp64 inputs.
Shapes: B lanes times heads, N chunks, C cells per chunk, K head width, J = 3 weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.kernels.lact.memory import NAMES, LactState, close_chunk, row_norms, swiglu
from ttt.kernels.states import Weights, cast, lane_of, stack_lanes, state_dtype, zeros_of


def lact_loss(weights: Weights, *, k_K: Tensor, v_K: Tensor) -> Tensor:
    """Return the loss of one token, -<f(k), v>."""
    return -(swiglu(k_K, weights=weights) * v_K).sum()


def _with_write(pending: Weights, *, weights: Weights, k_K: Tensor, v_K: Tensor, lr_J: Tensor) -> Weights:
    """Return the sum G after the write of one token."""
    grad = torch.func.grad(lact_loss)(weights, k_K=k_K, v_K=v_K)
    return {name: pending[name] - lr_J[j] * grad[name] for j, name in enumerate(NAMES)}


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
    """Run the definition token by token; return what was read, [B, N, C, K], and the last state."""
    (batch, chunks, size, _), dtype = q_BNCK.shape, state_dtype(q_BNCK)
    q, k, v, lr, mu = (x.to(dtype) for x in (q_BNCK, k_BNCK, v_BNCK, lr_BNCJ, mu_BNC))
    token = token_BNC.expand(batch, -1, -1).tolist()
    opens, begins, closes = (x_BN.expand(batch, -1).tolist() for x_BN in (opens_BN, begins_BN, closes_BN))
    reads, lanes, sums = [], [], []
    for b in range(batch):
        first, weights, momentum, pending = (cast(lane_of(x, b), dtype) for x in (initial, *state[:3]))
        total = torch.stack([state.mu_sum_B[b], state.count_B[b]]).to(dtype)
        for n in range(chunks):
            weights, momentum = (first, zeros_of(first)) if opens[b][n] else (weights, momentum)
            if begins[b][n] or opens[b][n]:
                # What an unfinished chunk left is dropped: its document ended.
                pending, total = zeros_of(first), 0 * total
            for c in range(size):
                reads.append(swiglu(q[b, n, c], weights=weights))
                if token[b][n][c]:
                    pending = _with_write(pending, weights=weights, k_K=k[b, n, c], v_K=v[b, n, c], lr_J=lr[b, n, c])
                    total = total + torch.stack([mu[b, n, c], torch.ones_like(mu[b, n, c])])
            # A chunk without tokens must not let the momentum act once more.
            if closes[b][n] and total[1] > 0:
                memory = close_chunk(
                    (weights, momentum, pending), mu=total[0] / total[1], norms=row_norms(first), muon=muon
                )
                (weights, momentum, pending), total = memory, 0 * total
        lanes.append((weights, momentum, pending))
        sums.append(total)
    weights, momentum, pending = map(stack_lanes, zip(*lanes, strict=True))
    last = LactState(weights, momentum, pending, *torch.stack(sums, dim=1).unbind())
    return torch.stack(reads).view(q.shape).to(q_BNCK.dtype), last
