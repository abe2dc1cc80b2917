"""The write that fits a chunk best: ridge regression of its errors on its keys, in closed form.

    D = E^T (K K^T + lambda I)^-1 K = ((K^T K + lambda I)^-1 K^T E)^T

The first form solves a system of C equations, the second one of F: the smaller one is solved. A
token whose key and error are zero takes no part.
Shapes: B batch (lanes), C tokens per chunk, D model width, F feed-forward width, X = C or F.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ridge_write(k_BCF: Tensor, error_BCD: Tensor, ridge: float) -> Tensor:
    """Return D [B, D, F] in float64."""
    # Squares of raw keys are up to 1e8 times lambda: fp32 has seven digits.
    k_BCF, error_BCD = k_BCF.double(), error_BCD.double()
    if k_BCF.shape[-2] <= k_BCF.shape[-1]:
        return _solve(k_BCF @ k_BCF.mT, error_BCD, ridge).mT @ k_BCF
    return _solve(k_BCF.mT @ k_BCF, k_BCF.mT @ error_BCD, ridge).mT


def _solve(gram_BXX: Tensor, right_BXD: Tensor, ridge: float) -> Tensor:
    eye_XX = torch.eye(gram_BXX.shape[-1], dtype=gram_BXX.dtype, device=gram_BXX.device)
    # Without the check: a state that is not finite must reach the check of the loss, not raise.
    return torch.linalg.solve_ex(gram_BXX + ridge * eye_XX, right_BXD, check_errors=False).result
