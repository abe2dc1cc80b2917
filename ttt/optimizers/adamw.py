"""`adamw`: Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101)."""

from __future__ import annotations

import torch
from torch import nn

from ttt.optimizers.groups import Clip, Momentum, Rate, WeightDecay, decay_groups


class AdamW:
    """AdamW that decays matrices only. Arguments are explained in conf/optimizer/adamw.yaml."""

    def __init__(
        self, *, name: str, lr: Rate, beta1: Momentum, beta2: Momentum, weight_decay: WeightDecay, clip: Clip
    ) -> None:
        self.name, self.clip = name, clip
        self._lr, self._betas, self._weight_decay = lr, (beta1, beta2), weight_decay

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        groups = decay_groups(model, self._weight_decay)
        # fused makes one call for all parameters: a small model would spend its step on calls.
        return torch.optim.AdamW(groups, lr=self._lr, betas=self._betas, fused=True)
