"""Test-time training layers: a small network per head that learns, token by token, to turn k into v.

    f(x; W) = x + LN(g(x; W))                           g linear, or an MLP with a tanh-gelu
    l_c(W)  = 1/2 |LN(g(k_c; W)) - (v_c - k_c)|^2       so f(k_c; W) is to become v_c
    W_c     = W_0 - sum_{i <= c} eta_i grad l_i(W_0)    W_0 as the chunk began: a mini-batch of C tokens
    o_c     = f(q_c; W_c)                               update, then apply

TTT-Linear and TTT-MLP (arXiv 2407.04620, sections 2.4 to 2.6). States are fp32 whatever the inputs are.
Weights: linear {w [B, K, K], b [B, K]}; MLP {w1 [B, F, K], b1 [B, F], w2 [B, K, F], b2 [B, K]}.
Shapes: B lanes times heads, N chunks, C cells a chunk, K head width, F hidden width, X and Y any width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]
# What one layer of g has to write: its inputs x_BCX and its eta-scaled output gradients e_BCY.
Step = tuple[Tensor, Tensor]

EPS = 1e-6
# sqrt(2 / pi) and the cubic term of the tanh form.
GELU_SCALE = 0.7978845608028654
GELU_CUBE = 0.044715


class TTTState(NamedTuple):
    """`start`: the weights as the open chunk began, where gradients are taken; `running`: with all writes so far."""

    start: Weights
    running: Weights


def layers(weights: Weights) -> list[tuple[str, str]]:
    """The names of weight and bias of each layer, first to last."""
    return [("w", "b")] if "w" in weights else [("w1", "b1"), ("w2", "b2")]


def ttt_read(x_K: Tensor, *, weights: Weights, scale_K: Tensor, shift_K: Tensor) -> Tensor:
    """f(x) = x + LN(g(x)), one lane."""
    z_X = x_K
    for depth, (w, b) in enumerate(layers(weights)):
        z_X = F.linear(F.gelu(z_X, approximate="tanh") if depth else z_X, weights[w], weights[b])
    return x_K + F.layer_norm(z_X, z_X.shape[-1:], scale_K, shift_K, EPS)


def ttt_loss(weights: Weights, *, k_K: Tensor, v_K: Tensor, scale_K: Tensor, shift_K: Tensor) -> Tensor:
    """1/2 |LN(g(k)) - (v - k)|^2, one token."""
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
    """The definition: token by token, the gradient of the loss by autograd. Returns o [B, N, C, K], last state."""
    batch, chunks, size = q_BNCK.shape[:3]
    dtype = torch.promote_types(q_BNCK.dtype, torch.float32)
    q, k, v, eta, scale, shift = (x.to(dtype) for x in (q_BNCK, k_BNCK, v_BNCK, eta_BNC, scale_BK, shift_BK))
    token = token_BNC.expand(batch, -1, -1).tolist()
    opens, closes = (x_BN.expand(batch, -1).tolist() for x_BN in (opens_BN, closes_BN))
    reads, starts, runnings = [], [], []
    for b in range(batch):
        start, running, first = ({name: w[b].to(dtype) for name, w in x.items()} for x in (*state, initial))
        for n in range(chunks):
            start, running = (first, first) if opens[b][n] else (start, running)
            for c in range(size):
                if token[b][n][c]:
                    grad = torch.func.grad(ttt_loss)(
                        start, k_K=k[b, n, c], v_K=v[b, n, c], scale_K=scale[b], shift_K=shift[b]
                    )
                    running = {name: w - eta[b, n, c] * grad[name] for name, w in running.items()}
                reads.append(ttt_read(q[b, n, c], weights=running, scale_K=scale[b], shift_K=shift[b]))
            start = running if closes[b][n] else start
        starts.append(start)
        runnings.append(running)
    return torch.stack(reads).view(q.shape).to(q_BNCK.dtype), TTTState(stacked(starts), stacked(runnings))


def ttt_dual(
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
    """The same, all tokens of a chunk at once and never with a weight matrix per token."""
    dtype = torch.promote_types(q_BNCK.dtype, torch.float32)
    q, k, v, eta, scale_BK, shift_BK = (x.to(dtype) for x in (q_BNCK, k_BNCK, v_BNCK, eta_BNC, scale_BK, shift_BK))
    start, running, initial = ({name: w.to(dtype) for name, w in x.items()} for x in (*state, initial))
    scale_B1K, shift_B1K = scale_BK.unsqueeze(1), shift_BK.unsqueeze(1)
    eta_BNC1 = torch.where(token_BNC, eta, 0).unsqueeze(-1)
    opens, closes = lane_masks(opens_BN), lane_masks(closes_BN)
    z: list[Tensor] = []
    # A bf16 autocast would round the states.
    with torch.autocast(q.device.type, enabled=False):
        cells = zip(*(x.unbind(1) for x in (q, k, v - k, eta_BNC1)), opens, closes, strict=True)
        for q_BCK, k_BCK, target_BCK, eta_BC1, opened_B, closed_B in cells:
            start, running = select(opened_B, initial, start), select(opened_B, initial, running)
            steps = inner_steps(
                k_BCK, target_BCK=target_BCK, eta_BC1=eta_BC1, scale_B1K=scale_B1K, shift_B1K=shift_B1K, weights=start
            )
            z.append(dual_read(q_BCK, weights=running, steps=steps))
            running = written(running, steps=steps)
            start = select(closed_B, running, start)
        y_BNCK = F.layer_norm(torch.stack(z, dim=1), q.shape[-1:], eps=EPS)
        o_BNCK = q + scale_B1K.unsqueeze(1) * y_BNCK + shift_B1K.unsqueeze(1)
    return o_BNCK.to(q_BNCK.dtype), TTTState(start, running)


def lane_masks(mask_BN: Tensor) -> list[Tensor | bool]:
    """One mask [B] per chunk, or a plain bool where all lanes agree: one look at the device for all chunks."""
    some, every = mask_BN.any(0).tolist(), mask_BN.all(0).tolist()
    return [mask_B if some[n] and not every[n] else some[n] for n, mask_B in enumerate(mask_BN.unbind(1))]


def select(mask_B: Tensor | bool, yes: Weights, no: Weights) -> Weights:
    """Per lane: `yes` where the mask holds, else `no`."""
    if isinstance(mask_B, bool):
        return yes if mask_B else no
    return {name: torch.where(mask_B.view(-1, *(1,) * (w.dim() - 1)), yes[name], w) for name, w in no.items()}


def stacked(lanes: Sequence[Weights]) -> Weights:
    return {name: torch.stack([weights[name] for weights in lanes]) for name in lanes[0]}


def inner_steps(
    k_BCK: Tensor, *, target_BCK: Tensor, eta_BC1: Tensor, scale_B1K: Tensor, shift_B1K: Tensor, weights: Weights
) -> list[Step]:
    """The backward pass of the loss at `weights`, written out: grad of layer w is sum_c g_c x_c^T, of its b sum_c g_c.

    Through the norm, with y = (z - mean) / std and d = dl/dy:  g = (d - mean(d) - y mean(d y)) / std.
    """
    names = layers(weights)
    x, slope, z_BCY = [k_BCK], [], k_BCK
    for depth, (w, b) in enumerate(names):
        if depth:
            x_BCX, slope_BCX = gelu_with_slope(z_BCY)
            x.append(x_BCX)
            slope.append(slope_BCX)
        z_BCY = torch.baddbmm(weights[b].unsqueeze(1), x[-1], weights[w].mT)
    var_BC1, mean_BC1 = torch.var_mean(z_BCY, dim=-1, correction=0, keepdim=True)
    rstd_BC1 = (var_BC1 + EPS).rsqrt()
    y_BCK = (z_BCY - mean_BC1) * rstd_BC1
    d_BCK = scale_B1K * (scale_B1K * y_BCK + shift_B1K - target_BCK)
    e_BCY = d_BCK - d_BCK.mean(-1, keepdim=True) - y_BCK * (d_BCK * y_BCK).mean(-1, keepdim=True)
    e_BCY = eta_BC1 * rstd_BC1 * e_BCY
    steps = [(x[-1], e_BCY)]
    for depth in range(len(names) - 1, 0, -1):
        e_BCY = (e_BCY @ weights[names[depth][0]]) * slope[depth - 1]
        steps.insert(0, (x[depth - 1], e_BCY))
    return steps


def gelu_with_slope(z: Tensor) -> tuple[Tensor, Tensor]:
    """The tanh-gelu z s(u), s the sigmoid, u = 2 a (z + b z^3), and its derivative s + s (1 - s) z u'."""
    u = z * (2 * GELU_SCALE + 2 * GELU_SCALE * GELU_CUBE * z * z)
    s = torch.sigmoid(u)
    # z u' = 3 u - 4 a z: cheaper than a second polynomial.
    return z * s, s * (1 + (1 - s) * torch.sub(3 * u, z, alpha=4 * GELU_SCALE))


def dual_read(q_BCK: Tensor, *, weights: Weights, steps: list[Step]) -> Tensor:
    """g(q_c; W_c), layer by layer: W_c x_c + b_c = W x_c + b - sum_{i <= c} e_i (x_i . x_c + 1)."""
    z_BCY = q_BCK
    for depth, ((w, b), (x_BCX, e_BCY)) in enumerate(zip(layers(weights), steps, strict=True)):
        read_BCX = F.gelu(z_BCY, approximate="tanh") if depth else z_BCY
        score_BCC = (read_BCX @ x_BCX.mT + 1).tril()
        before_BCY = torch.baddbmm(weights[b].unsqueeze(1), read_BCX, weights[w].mT)
        z_BCY = torch.baddbmm(before_BCY, score_BCC, e_BCY, alpha=-1)
    return z_BCY


def written(weights: Weights, *, steps: list[Step]) -> Weights:
    """The weights after all cells of the chunk."""
    after = {}
    for (w, b), (x_BCX, e_BCY) in zip(layers(weights), steps, strict=True):
        after[w] = torch.baddbmm(weights[w], e_BCY.mT, x_BCX, alpha=-1)
        after[b] = weights[b] - e_BCY.sum(1)
    return after
