"""`anchor`: after each step the weights go a share of the way back to where the stream began.

    theta <- theta - rate (theta - theta_base)

A leash: what is learned stays near the base, whatever the tasks ask for.
"""

from typing import Annotated

import torch
from annotated_types import Gt, Lt
from torch import Tensor

from ttt.learner import Engine
from ttt.strategies.base import Strategy
from ttt.stream import Stream


class Anchor(Strategy):
    # Any number of devices may hold whole weights; it pulls towards old values, at each step.
    runs_on = "ddp"
    anchors = True
    needs_steps = True

    def __init__(self, *, name: str, rate: Annotated[float, Gt(0), Lt(1)]) -> None:
        super().__init__(name=name)
        self._rate = rate
        self._weights: list[Tensor] = []
        self._base: list[Tensor] = []

    def begin(self, engine: Engine, stream: Stream) -> None:
        self._weights = [weight for weight in engine.order if weight.requires_grad]
        # Clones: an anchor that shares the weights' memory never pulls.
        self._base = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def stepped(self, engine: Engine) -> None:
        for weight, base in zip(self._weights, self._base, strict=True):
            weight.lerp_(base, self._rate)

    def state(self) -> dict[str, Tensor]:
        return {str(index): base for index, base in enumerate(self._base)}

    def restore(self, state: dict[str, Tensor]) -> None:
        self._base = [state[str(index)].to(base) for index, base in enumerate(self._base)]
