"""`lora_fast`: low-rank matrices beside the MLPs' down-projections, one SGD step per chunk read.

    o = W0 z + scale * B (A z)       A = A0 + S_A, B = S_B       S <- decay S - step * clip(grad)

The gradient is that of the chunk's next-token loss. LoRA (arXiv 2106.09685) as fast weights:
parameter-efficient fine-tuning at test time. A0 is a slow weight; ttt/adapters/descent.py takes the
steps.
Shapes: B batch (lanes), T time, I inputs, O outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from ttt.adapters.base import Carry, Lifetime, Reset
from ttt.adapters.descent import Descent, Rates
from ttt.adapters.layers import LayerChoice, down_projections, pick_layers
from ttt.adapters.linear_fast import FastLinear, LinearFast, adopt


class LoraFast(LinearFast):
    """Arguments are explained in conf/adapter/lora_fast.yaml."""

    def __init__(
        self,
        *,
        name: str,
        seq_len: int,
        chunk: Annotated[int, Ge(2)],
        reset: Reset,
        carry: Carry,
        layers: LayerChoice,
        rank: Annotated[int, Ge(1)],
        scale: Annotated[float, Gt(0)],
        step: Annotated[float, Gt(0)],
        learn_step: bool,
        clip: Annotated[float, Gt(0)] | None,
        decay: Annotated[float, Interval(ge=0, le=1)],
        second_order: bool,
    ) -> None:
        rates = Rates(step=step, learn_step=learn_step, clip=clip, decay=decay, second_order=second_order)
        lifetime = Lifetime(reset, carry)
        super().__init__(name=name, descent=Descent(chunk=chunk, seq_len=seq_len, lifetime=lifetime, rates=rates))
        self._only, self._rank, self._scale = layers, rank, scale

    def attach(self, model: nn.Module) -> None:
        # Listed first: hooking adds modules to those that are being walked through.
        blocks = list(down_projections(model))
        if not blocks:
            raise ValueError("adapter=lora_fast: the model has no gated MLP")
        for name, _, down in pick_layers(blocks, self._only):
            self.hook(down, Lora(down, rank=self._rank, scale=self._scale), name=name)
        adopt(model, self._descent)


class Lora(FastLinear):
    """scale * B A beside one linear layer."""

    def __init__(self, linear: nn.Linear, *, rank: int, scale: float) -> None:
        super().__init__()
        self._scale = scale
        # B starts at zero, so A must not: both would have a gradient of zero.
        self.a_RI = nn.Parameter(torch.randn(rank, linear.in_features) / linear.in_features**0.5)
        self._outputs = linear.out_features

    def initial(self) -> dict[str, Tensor]:
        zeros_RI = torch.zeros_like(self.a_RI, dtype=torch.float32)
        return {"a": zeros_RI.detach()[None], "b": zeros_RI.new_zeros(1, self._outputs, len(zeros_RI))}

    def forward(self, x_BTI: Tensor, fast: Mapping[str, Tensor]) -> Tensor:
        a_BRI = self.a_RI.to(x_BTI.dtype) + fast["a"]
        return self._scale * ((x_BTI @ a_BRI.mT) @ fast["b"].mT)
