"""`sgd_fast`: the MLPs of the last blocks take one clipped SGD step per chunk read.

    W = W0 + S       S <- decay S - step * clip(grad of the chunk's next-token loss)
    W: all three matrices of a gated MLP

Dynamic evaluation (arXiv 1709.07432). The layers, the order (apply, then update) and the clipping
follow end-to-end test-time training (arXiv 2512.23675), which differentiates the base through the
steps (second_order=true). That paper adds a second, fast MLP beside the ordinary one; here the
model's own MLP is fast.
Shapes: B batch (lanes), T time, I inputs, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor, nn

from ttt.adapters.base import Carry, Lifetime, Reset
from ttt.adapters.descent import Descent, Rates
from ttt.adapters.layers import LayerChoice, down_projections, pick_layers
from ttt.adapters.linear_fast import FastLinear, LinearFast, adopt


class SgdFast(LinearFast):
    """Arguments are explained in conf/adapter/sgd_fast.yaml."""

    def __init__(
        self,
        *,
        name: str,
        seq_len: int,
        chunk: Annotated[int, Ge(2)],
        reset: Reset,
        carry: Carry,
        layers: LayerChoice,
        share: Annotated[float, Interval(gt=0, le=1)],
        step: Annotated[float, Gt(0)],
        learn_step: bool,
        clip: Annotated[float, Gt(0)] | None,
        decay: Annotated[float, Interval(ge=0, le=1)],
        second_order: bool,
    ) -> None:
        rates = Rates(step=step, learn_step=learn_step, clip=clip, decay=decay, second_order=second_order)
        lifetime = Lifetime(reset, carry)
        super().__init__(name=name, descent=Descent(chunk=chunk, seq_len=seq_len, lifetime=lifetime, rates=rates))
        self._only, self._share = layers, share

    def attach(self, model: nn.Module) -> None:
        blocks = list(down_projections(model))
        if not blocks:
            raise ValueError("adapter=sgd_fast: the model has no gated MLP")
        # Rounded up: at least one block is fast, however small the share.
        last = blocks[-math.ceil(self._share * len(blocks)) :]
        for name, mlp, down in last if self._only is None else pick_layers(blocks, self._only):
            for matrix, linear in {**mlp.into, mlp.down_name: down}.items():
                self.hook(linear, FullMatrix(linear), name=f"{name}.{matrix}")
        adopt(model, self._descent)


class FullMatrix(FastLinear):
    """A whole matrix per lane, added to that of the linear layer."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._shape = linear.weight.shape

    def initial(self) -> dict[str, Tensor]:
        return {"weight": torch.zeros(1, *self._shape)}

    def forward(self, x_BTI: Tensor, fast: Mapping[str, Tensor]) -> Tensor:
        return x_BTI @ fast["weight"].mT
