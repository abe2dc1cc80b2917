"""Parameter groups and checks that every optimizer shares."""

from __future__ import annotations

from math import isfinite
from typing import Any

from torch import nn


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices only: norms, step sizes and biases have their own scale to keep."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not weight_decay:
        # A step of one group costs less than of two.
        return [{"params": parameters, "weight_decay": 0.0}]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]


def check_betas(*, beta1: float, beta2: float) -> None:
    for argument, beta in (("beta1", beta1), ("beta2", beta2)):
        if not 0 <= beta < 1:
            raise ValueError(f"optimizer.{argument}={beta:g}: must lie in [0, 1)")


def check(*, lr: float, weight_decay: float, clip: float | None, prefix: str = "") -> None:
    if not (lr > 0 and isfinite(lr)):
        raise ValueError(f"optimizer.{prefix}lr={lr:g}: must be above 0")
    if not (weight_decay >= 0 and isfinite(weight_decay)):
        raise ValueError(f"optimizer.weight_decay={weight_decay:g}: must not be negative")
    if clip is not None and not clip > 0:
        raise ValueError(f"optimizer.clip={clip:g}: must be above 0 (null: no clipping)")
