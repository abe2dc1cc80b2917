"""`muon`: momentum made orthogonal by Newton-Schulz (Jordan et al. 2024; torch's form) for the hidden matrices,
AdamW for the rest: embeddings, norms, step sizes, biases, convolutions.

    M <- mu M + grad;   W <- W - lr * scale * orthogonal(M)

A hidden matrix is the weight of a linear layer inside a stack of blocks. `match_rms_adamw` scales its update to the
size of one of AdamW, so that both share one range of learning rates (Liu et al., arXiv 2502.16982).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ttt.optimizers.groups import check, check_betas
from ttt.optimizers.joined import Joined


class Muon:
    def __init__(
        self,
        *,
        name: str,
        lr: float,
        momentum: float,
        adamw_lr: float,
        beta1: float,
        beta2: float,
        weight_decay: float,
        clip: float | None,
    ) -> None:
        check(lr=lr, weight_decay=weight_decay, clip=clip)
        check(lr=adamw_lr, weight_decay=weight_decay, clip=clip, prefix="adamw_")
        check_betas(beta1=beta1, beta2=beta2)
        if not 0 <= momentum < 1:
            raise ValueError(f"optimizer.momentum={momentum:g}: must lie in [0, 1)")
        self.name, self.clip = name, clip
        self._lr, self._momentum, self._weight_decay = lr, momentum, weight_decay
        self._adamw: dict[str, Any] = {"lr": adamw_lr, "betas": (beta1, beta2), "fused": True}

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Raises ValueError for a model without hidden matrices."""
        hidden = hidden_matrices(model)
        if not hidden:
            raise ValueError("optimizer=muon: the model has no hidden matrices; use optimizer=adamw")
        known = {id(p) for p in hidden}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
        muon = torch.optim.Muon(
            hidden,
            lr=self._lr,
            momentum=self._momentum,
            weight_decay=self._weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        if not rest:
            return muon
        return Joined([muon, torch.optim.AdamW(rest, weight_decay=0.0, **self._adamw)])


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Weights of linear layers inside a stack of blocks, each once."""
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    layers = [layer for stack in stacks for layer in stack.modules() if isinstance(layer, nn.Linear)]
    weights = {id(layer.weight): layer.weight for layer in layers if layer.weight.requires_grad}
    return [weight for weight in weights.values() if isinstance(weight, nn.Parameter)]
