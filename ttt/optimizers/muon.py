"""`muon`: orthogonalised momentum for the hidden matrices, AdamW for all other parameters.

    M <- mu M + grad;   W <- W - lr * scale * orthogonal(M)

Source: Jordan et al. 2024, in torch's form (Newton-Schulz). Embeddings, norms, step sizes, biases
and convolutions go to AdamW. `match_rms_adamw` scales an update to the size of one of AdamW, so
that both share one range of learning rates (Liu et al., arXiv 2502.16982).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ttt.optimizers.groups import Clip, Momentum, Rate, WeightDecay
from ttt.optimizers.joined import Joined


class Muon:
    """Muon joined with AdamW. Arguments are explained in conf/optimizer/muon.yaml."""

    def __init__(
        self,
        *,
        name: str,
        lr: Rate,
        momentum: Momentum,
        adamw_lr: Rate,
        beta1: Momentum,
        beta2: Momentum,
        weight_decay: WeightDecay,
        clip: Clip,
    ) -> None:
        self.name, self.clip = name, clip
        self._lr, self._momentum, self._weight_decay = lr, momentum, weight_decay
        self._adamw: dict[str, Any] = {"lr": adamw_lr, "betas": (beta1, beta2), "fused": True}

    def build(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of `model`.

        Raises ValueError for a model without hidden matrices.
        """
        hidden = hidden_matrices(model)
        if not hidden:
            raise ValueError("optimizer=muon: the model has no hidden matrices; use optimizer=adamw")
        hidden_ids = {id(p) for p in hidden}
        rest = [p for p in model.parameters() if p.requires_grad and id(p) not in hidden_ids]
        muon = torch.optim.Muon(
            hidden,
            lr=self._lr,
            momentum=self._momentum,
            weight_decay=self._weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        if not rest:
            return muon
        # The rest is embeddings, norms, step sizes and biases, which do not decay.
        return Joined([muon, torch.optim.AdamW(rest, weight_decay=0.0, **self._adamw)])


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Return the weights of linear layers inside a stack of blocks, each once.

    A layer outside a stack maps to or from tokens or classes: its rows stand for single outputs,
    and an update that treats all directions alike does not suit it.
    """
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    layers = [layer for stack in stacks for layer in stack.modules() if isinstance(layer, nn.Linear)]
    # By identity: nested stacks and tied weights would list a parameter twice.
    weights = {id(layer.weight): layer.weight for layer in layers if layer.weight.requires_grad}
    return [weight for weight in weights.values() if isinstance(weight, nn.Parameter)]
