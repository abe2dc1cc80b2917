"""`si`: weights are as important as they lowered the loss on their way through the tasks.

    w_i <- w_i - g_i * (change of theta_i)                               at each step of a task
    O_i <- O_i + max(w_i, 0) / ((theta_t,i - theta_(t-1),i)^2 + xi)      at its end; then w = 0
    loss = data + c * sum_i O_i (theta_i - theta_(t-1),i)^2
    g: gradient of the data's loss, before clipping

Synaptic intelligence (Zenke, Poole, Ganguli 2017, arXiv 1703.04200). Memory: three numbers a
weight, and two more while a step is taken. Cost: six passes over the weights a step, none at the
end of a task. Neither grows with the number of tasks.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from ttt.learner import Engine, Learner
from ttt.strategies.quadratic import Quadratic, gradients_of
from ttt.strategies.shared import Coefficient, check_tasks, list_from_state, list_state
from ttt.stream import Stream


class Si(Quadratic):
    """Arguments are explained in conf/strategy/si.yaml.

    Beside a strategy that adds gradients, name `si` first: it takes the gradients that it meets for
    those of the data.
    """

    # xi = 0 would divide by nothing for a weight that did not move.
    def __init__(self, *, name: str, coefficient: Coefficient, xi: Annotated[float, Gt(0)]) -> None:
        super().__init__(name=name, coefficient=coefficient)
        self._xi = xi

    def check(self, learner: Learner, stream: Stream, *, parts: int) -> None:
        check_tasks(stream, name=self.name)

    def begin(self, engine: Engine, stream: Stream) -> None:
        super().begin(engine, stream)
        # An importance of zero pulls nowhere, but sets the anchor that the first path starts from.
        self.pull([torch.zeros_like(parameter) for parameter in self.trained])
        self.path, self._gradient, self._before = ([torch.zeros_like(p) for p in self.trained] for _ in range(3))

    @torch.no_grad()
    def gradients(self, engine: Engine) -> None:
        # Copies: the penalty and the clipping change gradients in place, the step the weights.
        torch._foreach_copy_(self._gradient, gradients_of(self.trained))
        torch._foreach_copy_(self._before, self.trained)
        super().gradients(engine)

    @torch.no_grad()
    def stepped(self, engine: Engine) -> None:
        # Before minus after is minus the change: the path grows where a step went downhill.
        torch._foreach_sub_(self._before, self.trained)
        torch._foreach_addcmul_(self.path, self._gradient, self._before)

    @torch.no_grad()
    def end_task(self, engine: Engine, index: int) -> None:
        away = torch._foreach_sub(self.trained, self.anchor)
        parts = zip(self.importance, self.path, away, strict=True)
        # Momentum at times goes uphill: a negative path counts nothing, rather than less than that.
        self.pull([total + path.clamp_min(0) / (moved.square() + self._xi) for total, path, moved in parts])
        torch._foreach_zero_(self.path)

    def state(self) -> dict[str, Tensor]:
        return super().state() | list_state("path", self.path)

    def restore(self, state: dict[str, Tensor]) -> None:
        super().restore(state)
        self.path = list_from_state("path", state, like=self.trained)
