"""`online_ewc`: ewc with one anchor, the latest weights, and one importance that fades from task to task.

    loss = data + c * sum_i F*_i (theta_i - theta_(t-1),i)^2          F* <- gamma F* + F_t at the end of task t

Schwarz et al. 2018 (Progress & Compress, arXiv 1805.06370). Memory: two numbers a weight; cost: two passes over the
weights a step, and one backward pass for each of `samples` rows at the end of a task. Neither grows with the tasks.
"""

from __future__ import annotations

import torch

from ttt.learner import Engine
from ttt.strategies.ewc import Ewc


class OnlineEwc(Ewc):
    """Arguments are explained in conf/strategy/online_ewc.yaml."""

    def __init__(self, *, name: str, coefficient: float, gamma: float, samples: int, fisher: str, labels: str) -> None:
        super().__init__(name=name, coefficient=coefficient, samples=samples, fisher=fisher, labels=labels)
        if not 0 <= gamma <= 1:
            raise ValueError(f"strategy.gamma={gamma:g}: must lie between 0 (the last task only) and 1 (all alike)")
        self._gamma = gamma

    def end_task(self, engine: Engine, index: int) -> None:
        new = self.information(engine, index)
        if self.importance:
            torch._foreach_add_(new, self.importance, alpha=self._gamma)
        self.pull(new)
