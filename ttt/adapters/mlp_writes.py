"""What one down-projection with fast weights writes: keys, targets, and their sizes.

Shapes: B batch (lanes), N chunks, C cells per chunk, D model width, F feed-forward width, X any
width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ttt.adapters.base import FastState
from ttt.adapters.mlp_desk import WritePass
from ttt.kernels.inplace.norms import spectral_norm
from ttt.kernels.inplace.rows import row_norm
from ttt.kernels.inplace.steps import ChunkUpdates
from ttt.kernels.scan import gated_scan

# Added to |k|^2 in a normalised write, so that a key of zero writes nothing instead of dividing.
LAMBDA = 1e-3


@dataclass(frozen=True)
class Writes:
    """All that one pass reads and writes, in the grid; `pull_BNC` scales error correction."""

    q_BNCF: Tensor
    k_BNCF: Tensor
    v_BNCD: Tensor
    pull_BNC: Tensor | None
    steps: ChunkUpdates


@dataclass(frozen=True)
class WriteSizes:
    """Factors of a write: `target_BNC1` of v, `pull_BNC1` of S k; `key_BNC1` of the key itself.

    A write is the product v k^T: dividing the target by |k| has the same effect as dividing the
    key, at a fraction of the width. Hence `key_BNC1` is None but for a ridge fit.
    """

    target_BNC1: Tensor
    pull_BNC1: Tensor
    key_BNC1: Tensor | None


def sizes_of(k_BNCF: Tensor, step: Tensor | float, writing: WritePass) -> WriteSizes:
    """The factors that the rule and the keys' norm ask for."""
    rule, live_BNC1 = writing.rule, writing.live_BNC[..., None]
    unit = rule.keys == "l2"
    scale_BNC1 = live_BNC1.float() if rule.sized_last else step * live_BNC1
    size_BNC1: Tensor | float = row_norm(k_BNCF) if unit or rule.rule == "nlms" else 1.0
    if rule.rule == "ridge":
        # A fit needs the keys as they are; the key of a token that takes no part is zero.
        return WriteSizes(scale_BNC1, scale_BNC1, scale_BNC1 / size_BNC1)
    if rule.rule == "nlms":
        # With l2 keys |k| is 1 already.
        scale_BNC1 = scale_BNC1 / (LAMBDA + (1.0 if unit else size_BNC1**2))
    if not unit:
        return WriteSizes(scale_BNC1, scale_BNC1, None)
    # S k k^T holds the key twice, so both factors are divided by |k|.
    return WriteSizes(scale_BNC1 / size_BNC1, scale_BNC1 / size_BNC1**2, None)


def mean_of_earlier(z_BNCF: Tensor, writing: WritePass, state: FastState) -> tuple[Tensor, FastState]:
    """The mean key of the chunks before each chunk, [B, N, 1, F], and the sums after the last.

    A mean that included the chunk itself would leak later tokens into earlier keys.
    """
    full_BN1 = writing.full_BN.unsqueeze(-1).float()
    before, after = [], {}
    # Sum and count decay alike, so their quotient stays a mean, one that favours recent chunks.
    sums = {"key_sum": z_BNCF.float().sum(2) * full_BN1, "key_count": writing.tokens_BN1 * full_BN1}
    for key, delta_BNX in sums.items():
        start_BX = state[key].expand(z_BNCF.shape[0], -1)
        before_BNX, after[key] = gated_scan(delta_BNX, gate_BN=writing.gate_BN, start_BX=start_BX)
        before.append(before_BNX)
    return (before[0] / before[1].clamp(min=1.0)).unsqueeze(2).to(z_BNCF.dtype), after


def bounded(v_BNCD: Tensor, k_BNCF: Tensor, steps: ChunkUpdates) -> Tensor:
    """Targets scaled so that each chunk's write V^T K has the norm that `steps` asks for.

    Only for writes that do not depend on the state; inplace_steps does the same for others.
    """
    if steps.spectral:
        v_BNCD = v_BNCD * (steps.size / spectral_norm(v_BNCD, k_BNCF)).to(v_BNCD.dtype)
    return clip_writes(v_BNCD, k_BNCF, steps)


def clip_writes(v_BNCD: Tensor, k_BNCF: Tensor, steps: ChunkUpdates) -> Tensor:
    """Targets scaled down so that no chunk's write V^T K has a norm above `steps.limit`.

    |sum v k^T|^2 = sum of (V V^T) * (K K^T): products of C x C instead of a matrix D x F per chunk.
    """
    if steps.limit is None:
        return v_BNCD
    # Sums of squares in bf16 would have three digits, and one of them scales the whole chunk.
    wide = torch.promote_types(v_BNCD.dtype, torch.float32)
    v_BNCD, k_BNCF = v_BNCD.to(wide), k_BNCF.to(wide)
    square_BN = ((v_BNCD @ v_BNCD.mT) * (k_BNCF @ k_BNCF.mT)).sum((2, 3)).clamp(min=1e-30)
    return v_BNCD * (steps.limit / square_BN.sqrt()).clamp(max=1.0)[..., None, None]
