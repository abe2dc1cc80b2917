"""Test-time training layers, all tokens of a chunk at once: the dual form of arXiv 2407.04620.

The weights W_c of single tokens are never formed: a token reads the weights before the chunk, minus
the steps of the chunk through the scores between its tokens.
kernels/ttt_layer/naive.py has the definition.
Shapes: B lanes times heads, N chunks, C cells per chunk, K head width, X and Y any width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.kernels.states import Weights, cast, lane_masks, select, state_dtype
from ttt.kernels.ttt_layer.network import EPS, TTTState, layer_names

# What one layer of g has to write: its inputs x_BCX and its output gradients times eta, e_BCY.
Step = tuple[Tensor, Tensor]

# sqrt(2 / pi) and the cubic coefficient of the tanh form.
GELU_SCALE = 0.7978845608028654
GELU_CUBE = 0.044715


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
    """Return what `ttt_naive` returns, except for what empty cells read."""
    dtype = state_dtype(q_BNCK)
    q, k, v, eta, scale_BK, shift_BK = (x.to(dtype) for x in (q_BNCK, k_BNCK, v_BNCK, eta_BNC, scale_BK, shift_BK))
    start, running, initial = (cast(x, dtype) for x in (*state, initial))
    scale_B1K, shift_B1K = scale_BK.unsqueeze(1), shift_BK.unsqueeze(1)
    # Empty cells write nothing because their step is 0.
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
            running = weights_after(running, steps=steps)
            start = select(closed_B, running, start)
        # The output norm needs no state: one call for all chunks.
        y_BNCK = F.layer_norm(torch.stack(z, dim=1), q.shape[-1:], eps=EPS)
        o_BNCK = q + scale_B1K.unsqueeze(1) * y_BNCK + shift_B1K.unsqueeze(1)
    return o_BNCK.to(q_BNCK.dtype), TTTState(start, running)


def inner_steps(
    k_BCK: Tensor, *, target_BCK: Tensor, eta_BC1: Tensor, scale_B1K: Tensor, shift_B1K: Tensor, weights: Weights
) -> list[Step]:
    """Return the step of every layer: the backward pass of the loss at `weights`, written out.

    The gradient of a layer is sum_c g_c x_c^T for its w and sum_c g_c for its b. Through the norm,
    with y = (z - mean) / std and d = dl/dy:  g = (d - mean(d) - y mean(d y)) / std.
    """
    # Written out rather than left to autograd: the outer loop differentiates through these steps.
    names = layer_names(weights)
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
    # Scaling by eta here scales the steps of all layers below as well.
    e_BCY = eta_BC1 * rstd_BC1 * e_BCY
    steps = [(x[-1], e_BCY)]
    for depth in range(len(names) - 1, 0, -1):
        e_BCY = (e_BCY @ weights[names[depth][0]]) * slope[depth - 1]
        steps.insert(0, (x[depth - 1], e_BCY))
    return steps


def gelu_with_slope(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tanh-gelu z s(u) and its derivative s + s (1 - s) z u'.

    s is the sigmoid and u = 2 a (z + b z^3), for 1 + tanh(x) = 2 s(2 x).
    """
    u = z * (2 * GELU_SCALE + 2 * GELU_SCALE * GELU_CUBE * z * z)
    s = torch.sigmoid(u)
    # z u' = 3 u - 4 a z: cheaper than a second polynomial.
    return z * s, s * (1 + (1 - s) * torch.sub(3 * u, z, alpha=4 * GELU_SCALE))


def dual_read(q_BCK: Tensor, *, weights: Weights, steps: list[Step]) -> Tensor:
    """Return g(q_c; W_c), layer by layer.

    W_c x_c + b_c = W x_c + b - sum_{i <= c} e_i (x_i . x_c + 1)
    """
    z_BCY = q_BCK
    for depth, ((w, b), (x_BCX, e_BCY)) in enumerate(zip(layer_names(weights), steps, strict=True)):
        read_BCX = F.gelu(z_BCY, approximate="tanh") if depth else z_BCY
        # The 1 is the bias, an input that is always 1; the diagonal stays: update, then apply.
        score_BCC = (read_BCX @ x_BCX.mT + 1).tril()
        before_BCY = torch.baddbmm(weights[b].unsqueeze(1), read_BCX, weights[w].mT)
        z_BCY = torch.baddbmm(before_BCY, score_BCC, e_BCY, alpha=-1)
    return z_BCY


def weights_after(weights: Weights, *, steps: list[Step]) -> Weights:
    """Return the weights after all cells of the chunk."""
    after = {}
    for (w, b), (x_BCX, e_BCY) in zip(layer_names(weights), steps, strict=True):
        # One product takes the steps of all cells together: sum_c e_c x_c^T.
        after[w] = torch.baddbmm(weights[w], e_BCY.mT, x_BCX, alpha=-1)
        after[b] = weights[b] - e_BCY.sum(1)
    return after
