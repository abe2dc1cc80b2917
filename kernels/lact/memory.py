"""What both forms of LaCT share: the network, its memory, and the update that closes a chunk.

    f(x) = W1 (silu(W0 x) * (W2 x))
    M_j <- mu M_j + G_j                               G_j: what the chunk's tokens wrote
    W_j <- rownorm(W_j + P(M_j))                      P: identity, or Muon

Weights: {w0 [B, F, K], w1 [B, K, F], w2 [B, F, K]}.
Shapes: B lanes times heads, C cells per chunk, K head width, F hidden width, X and Y any width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ttt.kernels.states import Weights, zeros_of

NAMES = ("w0", "w1", "w2")
# A quintic that takes singular values between about 0.1 and 1 near to 1 in five steps. It need not
# converge to 1: Muon trades that for speed.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
MUON_STEPS = 5

# Weights, momentum, and the sum G of the open chunk so far.
LactMemory = tuple[Weights, Weights, Weights]


class LactState(NamedTuple):
    """What a reader carries on.

    `pending`, `mu_sum_B`, `count_B`: the sum G, the sum of mu and the number of tokens of the open
    chunk.
    """

    weights: Weights
    momentum: Weights
    pending: Weights
    mu_sum_B: Tensor
    count_B: Tensor


def swiglu(x: Tensor, *, weights: Weights) -> Tensor:
    """Return f(x) for x [B, C, K], or for one lane's [K]."""
    return (F.silu(x @ weights["w0"].mT) * (x @ weights["w2"].mT)) @ weights["w1"].mT


def newton_schulz(m_BXY: Tensor) -> Tensor:
    """Apply Muon's P: take every singular value to about 1.

    Five steps of X <- a X + b (X X^T) X + c (X X^T)^2 X.
    """
    a, b, c = NEWTON_SCHULZ
    # X X^T is smaller on the shorter side, and P(X^T) = P(X)^T.
    wide = m_BXY.shape[-2] <= m_BXY.shape[-1]
    x_BXY = m_BXY if wide else m_BXY.mT
    # The Frobenius norm is at least the largest singular value: all lie in [0, 1] from here on.
    x_BXY = x_BXY / (torch.linalg.matrix_norm(x_BXY, keepdim=True) + 1e-7)
    for _ in range(MUON_STEPS):
        square_BXX = x_BXY @ x_BXY.mT
        x_BXY = a * x_BXY + (b * square_BXX + c * square_BXX @ square_BXX) @ x_BXY
    return x_BXY if wide else x_BXY.mT


def close_chunk(memory: LactMemory, *, mu: Tensor, norms: Weights, muon: bool) -> LactMemory:
    """Return the memory after a chunk: M <- mu M + G; W <- rownorm(W + P(M)); nothing pending."""
    weights, momentum, pending = memory
    momentum = {name: mu * m + pending[name] for name, m in momentum.items()}
    steps = {name: newton_schulz(m) for name, m in momentum.items()} if muon else momentum
    # Rows keep the norm they began with: weights that only ever add up would grow without bound.
    weights = {name: F.normalize(w + steps[name], dim=-1) * norms[name] for name, w in weights.items()}
    return weights, momentum, zeros_of(pending)


def row_norms(weights: Weights) -> Weights:
    """Return the norm of every row of the weights."""
    return {name: torch.linalg.vector_norm(w, dim=-1, keepdim=True) for name, w in weights.items()}
