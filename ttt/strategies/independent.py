"""`independent`: every task begins anew from the base; how well is a task learned without a past?

    as a task begins: theta <- theta_0; optimizer, schedule and fast state as before the first step

What naive learns worse than this reference is lost plasticity; what it learns better is transfer.
Memory: one number a weight. Cost of a step: as naive; it does not grow with the number of tasks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ttt.learner import Engine, Learner
from ttt.strategies.base import Strategy
from ttt.strategies.shared import check_tasks
from ttt.stream import Stream


class Independent(Strategy):
    """Resets everything that was learned as a task begins."""

    runs_on = "ddp"
    is_fresh = True

    def __init__(self, *, name: str) -> None:
        super().__init__(name=name)
        self._start: dict[str, Tensor] = {}

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        check_tasks(stream, name=self.name)

    def begin(self, engine: Engine, stream: Stream) -> None:
        # Frozen parameters are copied too: a strategy beside this one may change them.
        self._start = {name: x.detach().clone() for name, x in engine.learner.model.named_parameters()}

    @torch.no_grad()
    def begin_task(self, engine: Engine, index: int) -> None:
        learner = engine.learner
        for name, parameter in learner.model.named_parameters():
            # In place: the optimizer and the devices hold these very tensors.
            parameter.copy_(self._start[name])
        engine.forget_moments()
        # Also where adapter.reset=never would carry it over.
        learner.fast = learner.adapter.initial()

    def state(self) -> dict[str, Tensor]:
        return dict(self._start)

    def restore(self, state: dict[str, Tensor]) -> None:
        self._start = {name: x.to(self._start[name].device) for name, x in state.items()}
