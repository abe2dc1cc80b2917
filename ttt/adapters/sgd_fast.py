"""`sgd_fast`: the MLPs of the last blocks take one clipped SGD step per chunk while the model reads.

    W = W0 + S       S <- decay S - step * clip(grad of the chunk's next-token loss)       all three matrices

Dynamic evaluation (arXiv 1709.07432); the layers, the order (apply, then update) and the clip are those of
end-to-end test-time training (arXiv 2512.23675), which differentiates the base through the steps:
second_order=true. There a second MLP is fast and the ordinary one stays; here it is the model's own.
Shapes: B batch (lanes), T time, I inputs, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ttt.adapters.base import Lifetime, Reset
from ttt.adapters.layers import down_projections
from ttt.adapters.descent import Descent, Rates
from ttt.adapters.linear_fast import FastLinear, LinearFast, adopt


class SgdFast(LinearFast):
    """Arguments are explained in conf/adapter/sgd_fast.yaml."""

    def __init__(
        self,
        *,
        name: str,
        seq_len: int,
        chunk: int,
        reset: Reset,
        carry: str,
        share: float,
        step: float,
        learn_step: bool,
        clip: float | None,
        decay: float,
        second_order: bool,
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"adapter.share={share:g}: must lie above 0 and be at most 1 (all blocks)")
        rates = Rates(step=step, learn_step=learn_step, clip=clip, decay=decay, second_order=second_order)
        lifetime = Lifetime(reset, carry)
        super().__init__(name=name, descent=Descent(chunk=chunk, seq_len=seq_len, lifetime=lifetime, rates=rates))
        self._share = share

    def attach(self, model: nn.Module) -> None:
        found = list(down_projections(model))
        if not found:
            raise ValueError("adapter=sgd_fast: the model has no gated MLP (no module named down_proj)")
        for name, mlp, _ in found[-math.ceil(self._share * len(found)) :]:
            for matrix in ("gate_proj", "up_proj", "down_proj"):
                linear: nn.Linear = getattr(mlp, matrix)
                self.hook(linear, Whole(linear), name=f"{name}.{matrix}")
        adopt(model, self._descent)


class Whole(FastLinear):
    """A matrix of its own in every lane."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._shape = linear.weight.shape

    def initial(self) -> dict[str, Tensor]:
        return {"weight": torch.zeros(1, *self._shape)}

    def forward(self, x_BTI: Tensor, fast: Mapping[str, Tensor]) -> Tensor:
        return x_BTI @ fast["weight"].mT
