"""Norms that bound what the in-place memory writes and reads.

Shapes: B batch (lanes), X any leading dimensions, C tokens per chunk, D model width, F feed-forward
width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Power iterations behind a spectral norm, and the least one, for a write of zeros.
ITERATIONS, LEAST = 5, 1e-6


def row_scale(weight_DF: Tensor, state_BDF: Tensor) -> Tensor:
    """Return |row of W0| / |row of W0 + S|, [B, D], in the state's precision."""
    wide_DF = weight_DF.to(state_BDF.dtype)
    norm_D, sum_BD = (torch.linalg.vector_norm(x, dim=-1) for x in (wide_DF, wide_DF + state_BDF))
    # A row of zeros is read as zeros, whatever was added to it.
    return norm_D / sum_BD.clamp(min=1e-30)


def spectral_norm(v_XCD: Tensor, k_XCF: Tensor) -> Tensor:
    """Return the largest singular value of each write M = V^T K, [X, 1, 1]; at least 1e-6.

    Power iterations start from the mean row of M, so that the result depends on nothing random. M
    is never made: C (D + F) operations per product, instead of D F.
    """
    wide = torch.promote_types(torch.promote_types(v_XCD.dtype, k_XCF.dtype), torch.float32)
    with torch.autocast(v_XCD.device.type, enabled=False):
        v_XCD, k_XCF = v_XCD.to(wide), k_XCF.to(wide)
        right_XF1 = _unit(k_XCF.mT @ v_XCD.mean(-1, keepdim=True))
        for _ in range(ITERATIONS):
            left_XD1 = _unit(v_XCD.mT @ (k_XCF @ right_XF1))
            right_XF1 = _unit(k_XCF.mT @ (v_XCD @ left_XD1))
        return ((v_XCD @ left_XD1).mT @ (k_XCF @ right_XF1)).clamp(min=LEAST)


def _unit(x_XK1: Tensor) -> Tensor:
    return F.normalize(x_XK1, dim=-2, eps=1e-8)
