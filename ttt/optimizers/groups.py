"""What every optimizer shares: the kinds of its arguments, and which parameters decay."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Gt, Interval
from torch import nn

Rate = Annotated[float, Gt(0)]
# At 1 a moving average would never take in anything new.
Momentum = Annotated[float, Interval(ge=0, lt=1)]
WeightDecay = Annotated[float, Ge(0)]
# The largest norm of the gradient; None: no clipping.
Clip = Annotated[float, Gt(0)] | None


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups in which only matrices decay.

    Decay would pull norms, step sizes and biases off the scale that they have to keep.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not weight_decay:
        # A fused step over one group costs less than over two.
        return [{"params": parameters, "weight_decay": 0.0}]
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
