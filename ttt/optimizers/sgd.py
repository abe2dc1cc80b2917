"""`sgd`: stochastic gradient descent, with momentum if wanted."""

from __future__ import annotations

import torch
from torch import nn

from ttt.optimizers.groups import check, decay_groups


class SGD:
    def __init__(self, *, name: str, lr: float, momentum: float, weight_decay: float, clip: float | None) -> None:
        check(lr=lr, weight_decay=weight_decay, clip=clip)
        if not 0 <= momentum < 1:
            raise ValueError(f"optimizer.momentum={momentum:g}: must lie in [0, 1)")
        self.name, self.clip = name, clip
        self._lr, self._momentum, self._weight_decay = lr, momentum, weight_decay

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        groups = decay_groups(model, self._weight_decay)
        return torch.optim.SGD(groups, lr=self._lr, momentum=self._momentum, fused=True)
