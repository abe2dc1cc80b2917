"""`adam`: Adam as published (Kingma & Ba, arXiv 1412.6980), without weight decay."""

from __future__ import annotations

import torch
from torch import nn

from ttt.optimizers.groups import Clip, Momentum, Rate


class Adam:
    """Adam on all parameters. Arguments are explained in conf/optimizer/adam.yaml."""

    def __init__(self, *, name: str, lr: Rate, beta1: Momentum, beta2: Momentum, clip: Clip) -> None:
        self.name, self.clip = name, clip
        self._lr, self._betas = lr, (beta1, beta2)

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        # Without weight decay one group serves all parameters.
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return torch.optim.Adam(parameters, lr=self._lr, betas=self._betas, fused=True)
