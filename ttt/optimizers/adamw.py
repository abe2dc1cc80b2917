"""`adamw`: Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101), torch's fused form."""

from __future__ import annotations

import torch
from torch import nn

from ttt.optimizers.groups import check, check_betas, decay_groups


class AdamW:
    def __init__(
        self, *, name: str, lr: float, beta1: float, beta2: float, weight_decay: float, clip: float | None
    ) -> None:
        check(lr=lr, weight_decay=weight_decay, clip=clip)
        check_betas(beta1=beta1, beta2=beta2)
        self.name, self.clip = name, clip
        self._lr, self._betas, self._weight_decay = lr, (beta1, beta2), weight_decay

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        groups = decay_groups(model, self._weight_decay)
        return torch.optim.AdamW(groups, lr=self._lr, betas=self._betas, fused=True)
