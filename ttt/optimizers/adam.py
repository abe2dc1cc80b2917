"""`adam`: Adam as it was published (Kingma & Ba, arXiv 1412.6980), without weight decay; torch's fused form."""

from __future__ import annotations

import torch
from torch import nn

from ttt.optimizers.groups import check, check_betas


class Adam:
    def __init__(self, *, name: str, lr: float, beta1: float, beta2: float, clip: float | None) -> None:
        check(lr=lr, weight_decay=0.0, clip=clip)
        check_betas(beta1=beta1, beta2=beta2)
        self.name, self.clip = name, clip
        self._lr, self._betas = lr, (beta1, beta2)

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return torch.optim.Adam(parameters, lr=self._lr, betas=self._betas, fused=True)
