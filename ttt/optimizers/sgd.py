"""`sgd`: stochastic gradient descent, with optional momentum."""

from __future__ import annotations

import torch
from torch import nn

from ttt.optimizers.groups import Clip, Momentum, Rate, WeightDecay, decay_groups


class SGD:
    """SGD that decays matrices only. Arguments are explained in conf/optimizer/sgd.yaml."""

    def __init__(self, *, name: str, lr: Rate, momentum: Momentum, weight_decay: WeightDecay, clip: Clip) -> None:
        self.name, self.clip = name, clip
        self._lr, self._momentum, self._weight_decay = lr, momentum, weight_decay

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        groups = decay_groups(model, self._weight_decay)
        return torch.optim.SGD(groups, lr=self._lr, momentum=self._momentum, fused=True)
