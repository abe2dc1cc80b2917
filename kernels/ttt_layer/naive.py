"""Test-time training layers: a small network per head that learns token by token to turn k into v.

    f(x; W) = x + LN(g(x; W))                         g linear, or an MLP with a tanh-gelu
    l_c(W)  = 1/2 |LN(g(k_c; W)) - (v_c - k_c)|^2     so f(k_c; W) is to become v_c
    W_c     = W_0 - sum_{i <= c} eta_i grad l_i(W_0)  W_0 as the chunk began: a batch of C tokens
    o_c     = f(q_c; W_c)                             update, then apply

TTT-Linear and TTT-MLP (arXiv 2407.04620, sections 2.4 to 2.6). States are fp32, or fp64 for fp64
inputs.
Shapes: B lanes times heads, N chunks, C cells per chunk, K head width, X any width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.kernels.states import Weights, cast, lane_of, stack_lanes, state_dtype
from ttt.kernels.ttt_layer.network import EPS, TTTState, layer_names


def ttt_read(x_K: Tensor, *, weights: Weights, scale_K: Tensor, shift_K: Tensor) -> Tensor:
    """Return f(x) = x + LN(g(x)) for one token."""
    z_X = x_K
    for depth, (w, b) in enumerate(layer_names(weights)):
        z_X = F.linear(F.gelu(z_X, approximate="tanh") if depth else z_X, weights[w], weights[b])
    return x_K + F.layer_norm(z_X, z_X.shape[-1:], scale_K, shift_K, EPS)


def ttt_loss(weights: Weights, *, k_K: Tensor, v_K: Tensor, scale_K: Tensor, shift_K: Tensor) -> Tensor:
    """Return the loss of one token, 1/2 |LN(g(k)) - (v - k)|^2."""
    # LN(g(k)) - (v - k) = f(k) - v.
    return (ttt_read(k_K, weights=weights, scale_K=scale_K, shift_K=shift_K) - v_K).square().sum() / 2


def ttt_naive(
    q_BNCK: Tensor,
    *,
    k_BNCK: Tensor,
    v_BNCK: Tensor,
    eta_BNC: Tensor,
    scale_BK: Tensor,
    shift_BK: Tensor,
    token_BNC: Tensor,
    opens_BN: Tensor,
    closes_BN: Tensor,
    state: TTTState,
    initial: Weights,
) -> tuple[Tensor, TTTState]:
    """Run the definition token by token; return what was read, [B, N, C, K], and the last state."""
    batch, chunks, size = q_BNCK.shape[:3]
    dtype = state_dtype(q_BNCK)
    q, k, v, eta, scale, shift = (x.to(dtype) for x in (q_BNCK, k_BNCK, v_BNCK, eta_BNC, scale_BK, shift_BK))
    token = token_BNC.expand(batch, -1, -1).tolist()
    opens, closes = (x_BN.expand(batch, -1).tolist() for x_BN in (opens_BN, closes_BN))
    reads, starts, runnings = [], [], []
    for b in range(batch):
        start, running, first = (cast(lane_of(x, b), dtype) for x in (*state, initial))
        for n in range(chunks):
            start, running = (first, first) if opens[b][n] else (start, running)
            for c in range(size):
                # At `start`, not `running`: the tokens of a chunk do not see each other's steps.
                if token[b][n][c]:
                    grad = torch.func.grad(ttt_loss)(
                        start, k_K=k[b, n, c], v_K=v[b, n, c], scale_K=scale[b], shift_K=shift[b]
                    )
                    running = {name: w - eta[b, n, c] * grad[name] for name, w in running.items()}
                reads.append(ttt_read(q[b, n, c], weights=running, scale_K=scale[b], shift_K=shift[b]))
            # A chunk that stays open keeps its start: the rest of it may come in another piece.
            start = running if closes[b][n] else start
        starts.append(start)
        runnings.append(running)
    return torch.stack(reads).view(q.shape).to(q_BNCK.dtype), TTTState(stack_lanes(starts), stack_lanes(runnings))
